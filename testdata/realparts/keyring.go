package realparts

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A SecretService is an unlocked OS keyring as desktops on Linux have it, GNOME
// Keyring, on a session bus of its own. Nothing can start another keyring on that bus,
// nor show a prompt: what needs one fails at once.
type SecretService struct {
	// Env is what the environment of a process must end with to use this keyring and
	// no other. It sets HOME too; a child that runs the go command also needs GOCACHE
	// and GOMODCACHE.
	Env []string

	t      testing.TB
	bus    string // its address
	daemon *exec.Cmd
}

// Everyone on the bus may talk to everyone, and there are no directories of services
// that the bus could start.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

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

	// Not t.TempDir, which can be too long for the path of a socket.
	home, err := os.MkdirTemp("", "keyring-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	for _, dir := range []string{"data/keyrings", "config", "cache", "run"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	bus := filepath.Join(home, "run", "bus")
	s := &SecretService{t: t, bus: "unix:path=" + bus, Env: []string{
		"HOME=" + home,
		"XDG_DATA_HOME=" + filepath.Join(home, "data"),
		"XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
		"XDG_CACHE_HOME=" + filepath.Join(home, "cache"),
		"XDG_RUNTIME_DIR=" + filepath.Join(home, "run"),
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus,
		"GNOME_KEYRING_CONTROL=", "DISPLAY=", "WAYLAND_DISPLAY=",
	}}
	config := filepath.Join(home, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, bus), 0o600); err != nil {
		t.Fatal(err)
	}

	// The shell ends the bus when its standard input ends, and GNOME Keyring exits
	// when its bus does.
	busDaemon := s.Command("sh", "-c", `dbus-daemon --config-file="$1" --nofork --nopidfile & read -r _; kill $!; wait`, "sh", config)
	start(t, busDaemon)
	// The socket file is there a moment before anybody listens, and a keyring that is
	// refused then goes on without a bus.
	await(t, "the session bus", func() error {
		conn, err := net.Dial("unix", bus)
		if err == nil {
			conn.Close()
		}
		return err
	})

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

// Command returns a command that uses this keyring.
func (s *SecretService) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), s.Env...)
	return cmd
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
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = ready(); err == nil {
			return
		}
	}
	t.Fatalf("%s did not come up: %v", what, err)
}
