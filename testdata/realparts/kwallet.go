package realparts

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"
)

// A Wallet is the keyring of KDE, KWallet, with its wallet closed. It is a Secret Service
// too.
type Wallet struct {
	*session
	t      testing.TB
	screen *Screen
	daemon *exec.Cmd
}

const kwalletConfig = `[Wallet]
Enabled=true
First Use=false
Use One Wallet=true
Default Wallet=kdewallet
Prompt on Open=false
Close When Idle=false
[org.freedesktop.secrets]
apiEnabled=true
`

// KWallet starts one that ends with the test.
func KWallet(t testing.TB) *Wallet {
	t.Helper()
	for _, program := range []string{"dbus-daemon", "kwalletd5"} {
		_, err := exec.LookPath(program)
		Require(t, "KWallet (Debian: apt-get install libkf5wallet-bin dbus)", err)
	}
	w := &Wallet{t: t, screen: NewScreen(t), session: newSession(t)}
	w.Env = append(w.Env, "DISPLAY="+w.screen.Display)
	if err := os.WriteFile(filepath.Join(w.home, "config", "kwalletrc"), []byte(kwalletConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Stop() })
	w.Start()
	w.Open() // for the first time: it is created, and is in the Secret Service from the next start on
	w.Stop()
	w.Start()
	return w
}

// Start starts the daemon. The wallet is closed.
func (w *Wallet) Start() {
	w.t.Helper()
	w.daemon = w.Command("kwalletd5")
	if err := w.daemon.Start(); err != nil {
		w.t.Fatal(err)
	}
	await(w.t, "KWallet", func() error {
		_, err := w.isOpen()
		return err
	})
}

// Stop ends the daemon as a logout does. A crash could cost what was stored in the last
// seconds: KWallet answers first, and saves the wallet then.
func (w *Wallet) Stop() {
	w.call("close", "kdewallet", true)
	stop(w.daemon)
}

// Open opens the wallet as KDE does when its user logs in.
func (w *Wallet) Open() {
	w.t.Helper()
	hash := bytes.Repeat([]byte{7}, 56) // which stands for the password
	if err := w.call("pamOpen", "kdewallet", hash, int32(0)).Err; err != nil {
		w.t.Fatal(err)
	}
	await(w.t, "the open wallet", func() error {
		open, err := w.isOpen()
		if err == nil && !open {
			err = errors.New("it is closed")
		}
		return err
	})
}

// Close closes the wallet, as its user can at any time.
func (w *Wallet) Close() {
	w.t.Helper()
	if err := w.call("close", "kdewallet", true).Err; err != nil {
		w.t.Fatal(err)
	}
}

// Windows returns how many windows are shown.
func (w *Wallet) Windows() int { return w.screen.Count("--name", "") }

func (w *Wallet) isOpen() (open bool, err error) {
	err = w.call("isOpen", "kdewallet").Store(&open)
	return open, err
}

func (w *Wallet) call(method string, args ...any) *dbus.Call {
	conn, err := dbus.Connect(w.bus)
	if err != nil {
		return &dbus.Call{Err: err}
	}
	defer conn.Close()
	return conn.Object("org.kde.kwalletd5", "/modules/kwalletd5").Call("org.kde.KWallet."+method, dbus.FlagNoAutoStart, args...)
}

// Refuse waits until the wallet asks its user to open it, and says no.
func (w *Wallet) Refuse() {
	w.t.Helper()
	w.screen.Await("--class", "kwalletd")
	w.screen.Press("Escape")
}
