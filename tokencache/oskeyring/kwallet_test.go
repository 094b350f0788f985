//go:build linux

package oskeyring

import (
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// KDE opens the wallet when its user logs in, and yet says that it is locked until a
// program has asked for it to be unlocked. Nobody is needed for that.
func TestKWalletOpenedAtLogin(t *testing.T) {
	w := realparts.KWallet(t)
	useBus(t, w.Env)
	windows := w.Windows()
	dir, itemsDir := t.TempDir(), t.TempDir()
	_, _, err := realConfig(dir).Open(t.Context())
	wantProblem(t, err, Locked) // It is closed: locked is right.

	w.Open()
	cache, _ := mustOpen(t, another(realConfig(dir)))
	save(t, cache)
	var v tokencache.Version
	for range 5 {
		cache, _ := mustOpen(t, another(realConfig(dir)))
		wantLoad(t, cache)
		if v, err = mustItems(t, another(realConfig(itemsDir))).Save(t.Context(), "a", []byte("content"), v); err != nil {
			t.Fatal(err)
		}
	}

	// The next session of the desktop.
	w.Stop()
	_, _, err = another(realConfig(dir)).Open(t.Context())
	wantProblem(t, err, NoService)
	w.Start()
	_, _, err = another(realConfig(dir)).Open(t.Context())
	wantProblem(t, err, Locked)
	w.Open()
	if err := probeAgain(t); err != nil {
		t.Error(err)
	}
	cache, _ = mustOpen(t, another(realConfig(dir)))
	wantLoad(t, cache)
	if err := cache.Rekey(t.Context()); err != nil {
		t.Error(err)
	}

	// It is closed in the middle.
	w.Close()
	wantLoad(t, cache)
	_, _, err = another(realConfig(dir)).Open(t.Context())
	wantProblem(t, err, Locked)
	w.Open()
	items := mustItems(t, another(realConfig(itemsDir)))
	if data, got, err := items.Load(t.Context(), "a"); err != nil || string(data) != "content" || got != v {
		t.Errorf("%q, %v", data, err)
	}
	if err := items.Delete(t.Context(), "a", v); err != nil {
		t.Error(err)
	}
	if n := w.Windows(); n != windows {
		t.Errorf("%d windows, %d before", n, windows)
	}
}

// The user of a closed wallet is asked once, in KDE's own window, if the program may ask.
// Who says no is not asked again, and no window stays.
func TestKWalletAsksItsUser(t *testing.T) {
	w := realparts.KWallet(t)
	useBus(t, w.Env)
	w.Open()
	dir := t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)
	w.Close()
	windows := w.Windows()
	c := another(realConfig(dir))
	asked := 0
	c.OnPrompt = func() {
		asked++
		go w.Refuse()
	}
	for range 2 {
		_, _, err := c.Open(t.Context())
		wantProblem(t, err, Locked)
	}
	if n := w.Windows(); asked != 1 || n != windows {
		t.Errorf("asked %d times; %d windows, %d before", asked, n, windows)
	}
	w.Open()
	cache, _ = mustOpen(t, another(realConfig(dir)))
	wantLoad(t, cache)
}
