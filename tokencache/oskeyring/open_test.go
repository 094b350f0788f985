package oskeyring

import (
	"io/fs"
	"os"
	"path/filepath"
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

// The key in the OS keyring belongs to the path of the directory, and follows it.
func TestDirectoryThatWasMoved(t *testing.T) {
	f, parent := new(fake), t.TempDir()
	at := func(name string) string { return filepath.Join(parent, name) }
	cache, _ := mustOpen(t, f.config(at("one")))
	save(t, cache)
	open := func(name string) *tokencache.Cache {
		t.Helper()
		cache, _ := mustOpen(t, f.config(at(name)))
		wantLoad(t, cache)
		return cache
	}
	open("one")
	for _, names := range [][2]string{{"one", "two"}, {"two", "three"}, {"three", "one"}} {
		if err := os.Rename(at(names[0]), at(names[1])); err != nil {
			t.Fatal(err)
		}
		open(names[1])
		open(names[1])
	}
	// A copy has a key of its own from then on.
	if err := os.CopyFS(at("copy"), os.DirFS(at("one"))); err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(at("copy"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chmod(path, 0o600)
		}
		return err
	})
	if err := open("copy").Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	open("one")
	open("copy")
	// A note that somebody has made up leads nowhere.
	d, err := openDirs("test", at("one"))
	if err != nil {
		t.Fatal(err)
	}
	_, v, _ := d.about.Load(t.Context(), suffixEntry)
	if _, err := d.about.Save(t.Context(), suffixEntry, []byte("s/../other"), v); err != nil {
		t.Fatal(err)
	}
	open("one")
}

// What Open was told of the keys is out of date once they have been changed.
func TestRekeyRightAfterOpen(t *testing.T) {
	for _, accept := range []KeyChoice{Keyring(), KeyFile("")} {
		f, dir := new(fake), t.TempDir()
		cfg := f.config(dir)
		cfg.Accept = []KeyChoice{accept}
		cache, _ := mustOpen(t, cfg)
		save(t, cache)
		for range 3 {
			cache, _ := mustOpen(t, cfg)
			if err := cache.Rekey(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantLoad(t, cache)
			cache, _ = mustOpen(t, cfg)
			wantLoad(t, cache)
		}
	}
}
