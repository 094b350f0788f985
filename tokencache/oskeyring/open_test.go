package oskeyring

import (
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

func save(t *testing.T, c *tokencache.Cache) {
	t.Helper()
	if _, err := c.Save(t.Context(), testKey, testRecord(10), ""); err != nil {
		t.Fatal(err)
	}
}

func wantLoad(t *testing.T, c *tokencache.Cache) {
	t.Helper()
	if _, _, err := c.Load(t.Context(), testKey); err != nil {
		t.Fatal(err)
	}
}

func TestKeyringIsAskedOnce(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	cache, _ := mustOpen(t, f.config(dir))
	save(t, cache)

	before := f.gets.Load()
	cache, info := mustOpen(t, f.config(dir))
	for range 50 {
		r, v, err := cache.Load(t.Context(), testKey)
		if err == nil {
			_, err = cache.Save(t.Context(), testKey, r, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := f.gets.Load() - before; n != 1 {
		t.Errorf("the keyring was read %d times", n)
	}
	if info.Key != "OS keyring" || info.Dir != dir || len(info.Skipped) != 0 {
		t.Errorf("%+v", info)
	}
}

func TestLockedMakesNoKey(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	f.locked.Store(true)
	_, _, err := f.config(dir).Open(t.Context())
	wantProblem(t, err, Locked)
	if f.gets.Load()+f.sets.Load() != 0 {
		t.Error("the keyring was called")
	}
	f.locked.Store(false)
	cache, _ := mustOpen(t, f.config(dir))
	save(t, cache)
	f.locked.Store(true)
	_, _, err = f.config(dir).Open(t.Context())
	wantProblem(t, err, Locked)
	// Not even where something else is accepted: the records need the key.
	c := f.config(dir)
	c.Accept = []KeyChoice{Keyring(), KeyFile("")}
	_, _, err = c.Open(t.Context())
	wantProblem(t, err, Locked)
	if !strings.Contains(err.Error(), "sealed with the key in the OS keyring") {
		t.Errorf("the error does not say where the key is: %v", err)
	}
	f.locked.Store(false)
	cache, _ = mustOpen(t, f.config(dir))
	wantLoad(t, cache)
}
