package oskeyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
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

func TestLostKey(t *testing.T) {
	other := newKey()
	for name, c := range map[string]struct {
		lose func(f *fake, service string)
		want string
	}{
		"removed": {func(f *fake, service string) { f.Delete(service, keyUser) }, "the key that seals the records is gone"},
		"changed": {func(f *fake, service string) {
			it, _ := encodeKeys([][]byte{other})
			f.Set(service, keyUser, it.value)
		}, "sealed with another key"},
		"damaged": {func(f *fake, service string) { f.Set(service, keyUser, "x") }, "no keys of stayauth"},
		"newer":   {func(f *fake, service string) { f.Set(service, keyUser, `{"v":2}`) }, "update the program"},
		"short":   {func(f *fake, service string) { f.Set(service, keyUser, `{"v":1,"keys":["AAAA"]}`) }, "3 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := new(fake), t.TempDir()
			cfg := f.config(dir)
			cache, _ := mustOpen(t, cfg)
			save(t, cache)
			d, err := openDirs("test", dir)
			if err != nil {
				t.Fatal(err)
			}
			service := cfg.keyring(d).service
			good, _ := f.Get(service, keyUser)
			c.lose(f, service)
			sets := f.sets.Load()
			for range 2 {
				cache, _, err := cfg.Open(t.Context())
				if err == nil {
					_, _, err = cache.Load(t.Context(), testKey)
				}
				if !errors.Is(err, tokencache.ErrCorrupt) || errors.Is(err, tokencache.ErrNotFound) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v, want ErrCorrupt that says %q", err, c.want)
				}
			}
			if f.sets.Load() != sets {
				t.Error("a key was made")
			}
			// The record was kept: with its key, it is as good as before.
			if err := f.Set(service, keyUser, good); err != nil {
				t.Fatal(err)
			}
			cache, _ = mustOpen(t, cfg)
			wantLoad(t, cache)
		})
	}
}

// The key is removed while a process runs that has it.
func TestKeyRemovedMeanwhile(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	cfg := f.config(dir)
	cache, _ := mustOpen(t, cfg)
	clear(f.items)
	sets := f.sets.Load()
	_, err := cache.Save(t.Context(), testKey, testRecord(1), "")
	if !errors.Is(err, tokencache.ErrCorrupt) || f.sets.Load() != sets {
		t.Errorf("error %v, %d writes", err, f.sets.Load()-sets)
	}
	// Nothing is stored, so the next start may make a key.
	cache, _ = mustOpen(t, cfg)
	save(t, cache)
}

func TestFirstStartTogether(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	caches := make([]*tokencache.Cache, 20)
	var wg sync.WaitGroup
	for i := range caches {
		wg.Go(func() { caches[i], _ = mustOpen(t, f.config(dir)) })
	}
	wg.Wait()
	if n := f.sets.Load(); n != 1 {
		t.Errorf("%d keys were made", n)
	}
	save(t, caches[0])
	for _, c := range caches {
		wantLoad(t, c)
	}
}

func TestDirectoriesHaveTheirOwnKeys(t *testing.T) {
	f := new(fake)
	dir := t.TempDir()
	one, _ := mustOpen(t, f.config(dir))
	two, _ := mustOpen(t, f.config(t.TempDir()))
	save(t, one)
	save(t, two)
	if err := two.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, _ = mustOpen(t, f.config(dir))
	wantLoad(t, one)
	// However it is spelled, a directory is one.
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(dir, link)
	if _, err := os.Stat(link); err == nil { // Windows wants a privilege, Wine only pretends
		same, _ := mustOpen(t, f.config(link))
		wantLoad(t, same)
	}
}

func TestAccept(t *testing.T) {
	broken := new(fake)
	broken.locked.Store(true)
	key := func(context.Context) ([][]byte, error) { return [][]byte{bytes.Repeat([]byte{7}, 32)}, nil }
	fails := func(context.Context) ([][]byte, error) { return nil, errors.New("KMS is down") }
	ask := func(context.Context) (tokencache.Secret, error) { return "open sesame", nil }
	t.Setenv("TEST_PASSPHRASE", "open sesame")
	t.Setenv("EMPTY_PASSPHRASE", "")
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, "key"), []byte(base64.StdEncoding.EncodeToString(newKey())+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)

	for _, c := range []struct {
		name    string
		backend *fake
		accept  []KeyChoice
		want    string
		skipped int
	}{
		{"default", new(fake), nil, "OS keyring", 0},
		{"keyring first", new(fake), []KeyChoice{Keyring(), KeyFile("")}, "OS keyring", 0},
		{"key file first", new(fake), []KeyChoice{KeyFile(""), Keyring()}, "key file", 0},
		{"key file elsewhere", broken, []KeyChoice{Keyring(), KeyFile(filepath.Join(t.TempDir(), "key"))}, "key file", 1},
		{"passphrase", broken, []KeyChoice{Keyring(), Passphrase(ask)}, "passphrase", 1},
		{"no variable", broken, []KeyChoice{Keyring(), PassphraseEnv("EMPTY_PASSPHRASE"), PassphraseEnv("TEST_PASSPHRASE")}, "passphrase", 2},
		{"credential", broken, []KeyChoice{Credential("none"), Credential("../" + filepath.Base(credentials) + "/key"), Credential("key")}, "systemd credential", 2},
		{"KMS", broken, []KeyChoice{KeyFunc("KMS", fails), KeyFunc("other KMS", key)}, "other KMS", 1},
		{"nothing works", broken, []KeyChoice{Keyring(), KeyFunc("KMS", fails)}, "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			cfg := c.backend.config(t.TempDir())
			cfg.Accept, cfg.Logger = c.accept, slog.New(slog.NewTextHandler(&log, nil))
			var info Info
			for i := range 3 { // without records, with one, and with one again
				var cache *tokencache.Cache
				var err error
				cache, info, err = cfg.Open(t.Context())
				if c.want == "" {
					if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "KMS is down") || !strings.Contains(err.Error(), "locked") {
						t.Fatalf("error %v, want all the reasons", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if cache.KeyPlace() != c.want {
					t.Errorf("the cache says that the key is in %q, want %q", cache.KeyPlace(), c.want)
				}
				if info.Key != c.want || len(info.Skipped) != c.skipped {
					t.Fatalf("%+v, want %q and %d skipped", info, c.want, c.skipped)
				}
				if i == 0 {
					save(t, cache)
				}
				wantLoad(t, cache)
			}
			if !strings.Contains(info.String(), "; key: "+c.want) || !strings.Contains(log.String(), c.want) {
				t.Errorf("not reported: %s\n%s", info, log.String())
			}
		})
	}
}

func TestChoiceHoldsWhileThereAreRecords(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	f.locked.Store(true)
	cfg := f.config(dir)
	cfg.Accept = []KeyChoice{Keyring(), KeyFile("")}
	cache, info := mustOpen(t, cfg)
	if info.Key != "key file" {
		t.Fatal(info)
	}
	save(t, cache)
	f.locked.Store(false)

	cache, info = mustOpen(t, cfg)
	if info.Key != "key file" || !strings.Contains(strings.Join(info.Skipped, ""), "the records are sealed with the key in the key file") {
		t.Errorf("%+v", info)
	}
	wantLoad(t, cache)
	only := f.config(dir)
	_, _, err := only.Open(t.Context())
	if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), "key file: accept that") {
		t.Errorf("error %v, want one that says what to accept", err)
	}

	// The file is lost: no new one is made in its place, and no other key either.
	file := filepath.Join(dir, "sealing-key")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := cfg.Open(t.Context()); !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
	if _, err := os.Stat(file); err == nil || f.sets.Load() != 0 {
		t.Error("a key was made")
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}

	// With the last record goes the choice. A process that made the earlier one is
	// told before it stores anything.
	old, _ := mustOpen(t, cfg)
	_, v, err := old.Load(t.Context(), testKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Delete(t.Context(), testKey, v); err != nil {
		t.Fatal(err)
	}
	cache, info = mustOpen(t, cfg)
	if info.Key != "OS keyring" {
		t.Errorf("%+v", info)
	}
	if _, err := old.Save(t.Context(), testKey, testRecord(1), ""); !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "another process has chosen") {
		t.Errorf("Save with the key of an earlier choice: %v", err)
	}
	save(t, cache)
}

// The note of the choice is lost, with an incomplete backup for instance.
func TestRecordsWithoutNote(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	cfg := f.config(dir)
	cfg.Accept = []KeyChoice{Keyring(), KeyFile("")}
	cache, _ := mustOpen(t, cfg)
	save(t, cache)
	if err := os.RemoveAll(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	cfg.Accept = []KeyChoice{KeyFile(""), Keyring()}
	cache, info := mustOpen(t, cfg)
	if info.Key != "OS keyring" {
		t.Errorf("%+v", info)
	}
	wantLoad(t, cache)
}

func TestRefusesDirectories(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("modes mean nothing here")
		return
	}
	f, dir := new(fake), t.TempDir()
	mustOpen(t, f.config(dir))
	for _, sub := range []string{".", "entries", "locks", "key", "key/entries"} {
		path := filepath.Join(dir, sub)
		info, err := os.Stat(path)
		if err != nil || sub != "." && info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, %v", sub, info.Mode(), err)
		}
		old := info.Mode().Perm()
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.config(dir).Open(t.Context()); !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "chmod") {
			t.Errorf("%s that others can write: %v", sub, err)
		}
		if err := os.Chmod(path, old); err != nil {
			t.Fatal(err)
		}
	}
	mustOpen(t, f.config(dir))
}

func TestConfigIsChecked(t *testing.T) {
	for _, app := range []string{"", "a", "App", "a:b", "../x", "a/b", ".a", "a.", "a b", strings.Repeat("a", 65)} {
		if _, _, err := Open(t.Context(), app); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", app)) {
			t.Errorf("an application called %q: %v", app, err)
		}
	}
}

func TestStateDir(t *testing.T) {
	// No variable moves it, because the locks would move with it.
	want, err := stateDir("app")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "LOCALAPPDATA", "APPDATA", "USERPROFILE"} {
		t.Setenv(v, "/elsewhere")
	}
	if got, err := stateDir("app"); err != nil || got != want {
		t.Errorf("the environment moves %s to %s, %v", want, got, err)
	}
	for goos, want := range map[string]string{
		"linux":   "home/.local/state/app/stayauth",
		"freebsd": "home/.local/state/app/stayauth",
		"darwin":  "home/Library/Application Support/app/stayauth",
		"windows": "home/AppData/Local/app/stayauth",
	} {
		if got := filepath.ToSlash(stateDirIn("home", goos, "app")); got != want {
			t.Errorf("%s: %s, want %s", goos, got, want)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(newKey())
	f.Add([]byte(base64.StdEncoding.EncodeToString(newKey()) + "\r\n\n" + base64.StdEncoding.EncodeToString(newKey())))
	f.Add([]byte("too short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if err != nil && strings.Contains(err.Error(), string(data)) && len(data) > 16 {
			t.Error("the error quotes the data")
		}
		for _, k := range keys {
			if len(k) != 32 {
				t.Errorf("a key of %d bytes", len(k))
			}
		}
		if err == nil && len(keys) == 0 {
			t.Error("no key and no error")
		}
	})
}

func FuzzDecodeKeys(f *testing.F) {
	it, _ := encodeKeys([][]byte{newKey(), newKey()})
	f.Add(it.value)
	f.Add(`{"v":1,"keys":[""]}`)
	f.Fuzz(func(t *testing.T, value string) {
		keys, err := decodeKeys(item{value, true})
		if (err == nil) != (len(keys) > 0) || err != nil && !errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
	})
}
