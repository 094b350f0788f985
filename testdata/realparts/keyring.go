package realparts

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A SecretService is an unlocked OS keyring as desktops on Linux have it, GNOME
// Keyring, on a session bus of its own. Nothing can start another keyring on that bus,
// nor show a prompt: what needs one fails at once.
type SecretService struct {
	*session
	t      testing.TB
	daemon *exec.Cmd
}

// The collection that the Secret Service unlocks when its user logs in.
const loginCollection = "/org/freedesktop/secrets/collection/login"

// password is that of the keyring.
const password = "password"

// KeyringInstalled returns an error if Keyring would find something missing.
func KeyringInstalled() error {
	for _, program := range []string{"dbus-daemon", "dbus-send", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	return nil
}

// Keyring starts a keyring that ends with the test.
func Keyring(t testing.TB) *SecretService {
	t.Helper()
	Require(t, "a Secret Service (Debian: apt-get install gnome-keyring dbus)", KeyringInstalled())

	s := &SecretService{session: newSession(t), t: t}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// Start starts the keyring again after Kill, unlocked and with what it had stored.
func (s *SecretService) Start() {
	s.t.Helper()
	s.daemon = s.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	s.daemon.Stdin = strings.NewReader(password)
	if err := s.daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
	await(s.t, "the unlocked keyring", func() error { return s.expectLocked(false) })
}

// Lock locks the keyring, as a desktop does when its user logs out.
func (s *SecretService) Lock() {
	s.t.Helper()
	_, err := s.send("/org/freedesktop/secrets", "org.freedesktop.Secret.Service.Lock", "array:objpath:"+loginCollection)
	if err == nil {
		err = s.expectLocked(true)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Unlock unlocks it with the password, as a desktop does when its user logs in.
func (s *SecretService) Unlock() {
	s.t.Helper()
	conn, err := dbus.Connect(s.bus)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	service := conn.Object("org.freedesktop.secrets", "/org/freedesktop/secrets")
	var none dbus.Variant
	secret := struct {
		Session     dbus.ObjectPath
		Parameters  []byte
		Value       []byte
		ContentType string
	}{Parameters: []byte{}, Value: []byte(password), ContentType: "text/plain"}
	err = service.Call("org.freedesktop.Secret.Service.OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&none, &secret.Session)
	if err == nil {
		// The way without a prompt, which GNOME's own login uses.
		err = service.Call("org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.UnlockWithMasterPassword", 0,
			dbus.ObjectPath(loginCollection), secret).Err
	}
	if err == nil {
		err = s.expectLocked(false)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Signal sends a signal to the keyring.
func (s *SecretService) Signal(sig os.Signal) {
	s.t.Helper()
	if err := s.daemon.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Kill ends the keyring as a crash does. Its bus goes on, without a Secret Service.
func (s *SecretService) Kill() {
	s.daemon.Process.Kill()
	s.daemon.Wait()
}

// expectLocked returns an error unless the keyring answers and is locked, or not, as
// the caller expects.
func (s *SecretService) expectLocked(locked bool) error {
	reply, err := s.send(loginCollection, "org.freedesktop.DBus.Properties.Get",
		"string:org.freedesktop.Secret.Collection", "string:Locked")
	if err == nil && !bytes.Contains(reply, fmt.Appendf(nil, "boolean %t", locked)) {
		err = fmt.Errorf("want locked = %t, the keyring answered: %s", locked, reply)
	}
	return err
}

func (s *SecretService) send(object, method string, args ...string) ([]byte, error) {
	args = append([]string{"--session", "--print-reply", "--reply-timeout=10000", "--dest=org.freedesktop.secrets", object, method}, args...)
	out, err := s.Command("dbus-send", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("dbus-send %s: %w: %s", method, err, out)
	}
	return out, nil
}

// await polls ready until it returns nil. Nothing waits as long as the limit unless the
// part cannot start at all.
func await(t testing.TB, what string, ready func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = ready(); err == nil {
			return
		}
	}
	t.Fatalf("%s did not come up: %v", what, err)
}
