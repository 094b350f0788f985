//go:build linux

package oskeyring

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// useKeePassXC starts the real program, for this process.
func useKeePassXC(t *testing.T, confirm bool, databases ...string) *realparts.PasswordManager {
	t.Helper()
	p := realparts.KeePassXC(t, confirm, databases...)
	useBus(t, p.Env)
	return p
}

// another makes this process another one: with a connection of its own, and a person
// who has not been asked yet.
func another(c Config) Config {
	forgetBus()
	c.backend, c.guard = goKeyring{}, new(guard)
	return c
}

// Which tab KeePassXC shows decides which database is the default keyring. The key is
// where it was.
func TestKeePassXCWithTwoDatabases(t *testing.T) {
	p := useKeePassXC(t, false, "one", "two")
	p.Show("one")
	dir := t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)
	for range 2 {
		for _, tab := range []string{"two", "one"} {
			p.Show(tab)
			cache, _ := mustOpen(t, another(realConfig(dir)))
			wantLoad(t, cache)
		}
	}
	// While its database is locked it is not gone, whatever the other one says.
	p.Show("two")
	p.Lock("one")
	_, _, err := another(realConfig(dir)).Open(t.Context())
	wantProblem(t, err, Locked)
	if !strings.Contains(err.Error(), `"one"`) || strings.Contains(err.Error(), "delete") {
		t.Errorf("it does not say what to unlock: %v", err)
	}
	// With somebody to ask, the right one is unlocked.
	c := another(realConfig(dir))
	asked := 0
	c.OnPrompt = func() {
		asked++
		go p.Type("--name", "Unlock Database")
	}
	cache, _ = mustOpen(t, c)
	wantLoad(t, cache)
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	// After a restart with only the other database, the one with the key is closed.
	if err := cache.Rekey(t.Context()); err != nil {
		t.Errorf("Rekey where the key is in another tab: %v", err)
	}
	cache, _ = mustOpen(t, another(realConfig(dir)))
	wantLoad(t, cache)
}

// KeePassXC asks its user about each item, if that is not switched off. Where nobody
// can be asked that is an error at once, and no window stays.
func TestKeePassXCAsksAboutEachItem(t *testing.T) {
	p := useKeePassXC(t, true, "one")
	dir := t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)

	for range 3 {
		begin := time.Now()
		_, _, err := another(realConfig(dir)).Open(t.Context())
		wantProblem(t, err, Locked)
		if !strings.Contains(err.Error(), "confirm") || time.Since(begin) > 30*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	}
	if n := p.Requests(); n != 0 {
		t.Errorf("%d windows were opened, and nobody was told", n)
	}

	c := another(realConfig(dir))
	c.Timeout = 5 * time.Second
	asked := make(chan bool, 10)
	c.OnPrompt = func() {
		asked <- true
		time.AfterFunc(6*time.Second, p.Allow) // longer than a call may take
	}
	cache, _ = mustOpen(t, c)
	wantLoad(t, cache)
	if err := cache.Rekey(t.Context()); err != nil {
		t.Error(err)
	}
	if len(asked) != 1 {
		t.Errorf("asked %d times", len(asked))
	}
	if n := p.Requests(); n != 0 {
		t.Errorf("%d windows are left", n)
	}
}

// A process that writes items it has not made itself is asked about nothing, and what
// is removed fills no recycle bin.
func TestKeePassXCItems(t *testing.T) {
	p := useKeePassXC(t, false, "one")
	dir := t.TempDir()
	v := tokencache.Version("")
	for range 3 {
		items := mustItems(t, another(realConfig(dir)))
		var err error
		if v, err = items.Save(t.Context(), "a", []byte("content"), v); err != nil {
			t.Fatal(err)
		}
		if err := items.Preflight(t.Context(), "a", 100); err != nil {
			t.Fatal(err)
		}
	}
	items := mustItems(t, another(realConfig(dir)))
	if err := items.Delete(t.Context(), "a", v); err != nil {
		t.Fatal(err)
	}
	if _, _, err := items.Load(t.Context(), "a"); !errors.Is(err, tokencache.ErrNotFound) {
		t.Errorf("after Delete: %v", err)
	}
	if _, err := items.Save(t.Context(), "a", []byte("again"), ""); err != nil {
		t.Errorf("Save after Delete: %v", err)
	}
	if n := p.Requests(); n != 0 {
		t.Errorf("%d windows", n)
	}
	if entries := p.Entries("one"); len(entries) != 1 || strings.Contains(entries[0], "probe") {
		t.Errorf("the database holds %q", entries)
	}
}

// Where each item has to be confirmed, one window is for all that the application has.
func TestKeePassXCAsksForAllItemsInOneWindow(t *testing.T) {
	p := useKeePassXC(t, true, "one")
	dir := t.TempDir()
	names := []string{"a", "b", "c"}
	items := mustItems(t, realConfig(dir))
	for _, name := range names {
		if _, err := items.Save(t.Context(), name, []byte("content"), ""); err != nil {
			t.Fatal(err)
		}
	}

	begin := time.Now()
	_, _, err := mustItems(t, another(realConfig(dir))).Load(t.Context(), "a")
	wantProblem(t, err, Locked)
	if n := p.Requests(); n != 0 || time.Since(begin) > 30*time.Second {
		t.Errorf("nobody can be asked: %d windows after %v", n, time.Since(begin))
	}

	c := another(realConfig(dir))
	var asked atomic.Int64
	c.OnPrompt = func() {
		asked.Add(1)
		go p.Allow()
	}
	items = mustItems(t, c)
	for _, name := range names {
		_, v, err := items.Load(t.Context(), name)
		if err == nil {
			_, err = items.Save(t.Context(), name, []byte("new"), v)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if n := p.Requests(); asked.Load() != 1 || n != 0 {
		t.Errorf("asked %d times, %d windows are left", asked.Load(), n)
	}
}

func TestKeePassXCRestarted(t *testing.T) {
	p := useKeePassXC(t, false, "one")
	dir := t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)
	p.Stop()
	_, _, err := another(realConfig(dir)).Open(t.Context())
	wantProblem(t, err, NoService)
	p.Start()
	cache, _ = mustOpen(t, another(realConfig(dir)))
	wantLoad(t, cache)
	p.Lock("one")
	_, _, err = another(realConfig(dir)).Open(t.Context())
	wantProblem(t, err, Locked)
	wantProblem(t, probeAgain(t), Locked)
}
