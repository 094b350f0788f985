package oskeyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

func TestNamesOfApplications(t *testing.T) {
	long := strings.Repeat("x", 64)
	for app, want := range map[string]bool{
		"ab": true, "a1": true, "0z": true, "my-app_2.0": true, "a..b": true, long: true,
		"": false, "a": false, long + "x": false, "MyApp": false, ".ab": false, "ab.": false, "-a": false, "a_": false,
		"a/b": false, "a:b": false, "a b": false, "a\x00b": false, "a\nb": false, "aéb": false, "éa": false, "a\xffb": false, "..": false,
	} {
		c := new(fake).config(t.TempDir())
		c.App = app
		_, _, err := c.Open(t.Context())
		if (err == nil) != want {
			t.Errorf("%q: %v", app, err)
		}
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

// Whether the usual directory is given or taken by default, its key is the same.
func TestUsualDirectory(t *testing.T) {
	usual, other := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		path, usual string
		none        bool
	}{
		{usual, usual, true},
		{usual + "/../" + filepath.Base(usual), usual, true},
		{other, usual, false},
		{other, filepath.Join(usual, "none"), false},
		{other, "", false},
	} {
		if got, err := suffix(c.path, c.usual); err != nil || (got == "") != c.none {
			t.Errorf("suffix of %s where %s is usual: %q, %v", c.path, c.usual, got, err)
		}
	}
	one, err1 := suffix(usual, "")
	two, err2 := suffix(other, "")
	if one == two || err1 != nil || err2 != nil {
		t.Errorf("two directories: %q, %v, and %q, %v", one, err1, two, err2)
	}
}

// The part of the directory that is about the key is as much in it as the records.
func TestFollowsNoLinkOutOfTheDirectory(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "key")); err != nil && runtime.GOOS == "windows" {
		t.Log("links are a privilege here")
		return
	}
	if info, err := os.Lstat(filepath.Join(dir, "key")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Log("no link was made") // Wine only pretends
		return
	}
	f := new(fake)
	_, _, err := f.config(dir).Open(t.Context())
	if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("Open: %v", err)
	}
	if _, err := f.config(dir).Items(t.Context()); !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("Items: %v", err)
	}
	if files, err := os.ReadDir(outside); err != nil || len(files) > 0 {
		t.Errorf("%v were made at the other end of the link, %v", files, err)
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("modes mean nothing here")
		return
	}
	for _, choice := range []KeyChoice{Keyring(), KeyFile("")} {
		parent := t.TempDir()
		cfg := new(fake).config(filepath.Join(parent, "app", "stayauth"))
		cfg.Accept = []KeyChoice{choice}
		cache, _ := mustOpen(t, cfg)
		save(t, cache)
		files := 0
		err := filepath.WalkDir(filepath.Join(parent, "app"), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			want := fs.FileMode(0o600)
			if d.IsDir() {
				want = fs.ModeDir | 0o700
			} else {
				files++
			}
			if err == nil && info.Mode() != want {
				t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
			}
			return err
		})
		if err != nil || files < 3 { // a record, the place of its key, a lock
			t.Errorf("%d files, %v", files, err)
		}
	}
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
	key := func(context.Context) ([][]byte, error) { return nil, nil }
	for _, choice := range []KeyChoice{{}, KeyFunc("", key), KeyFunc("KMS", nil)} {
		c := new(fake).config(t.TempDir())
		c.Accept = []KeyChoice{Keyring(), choice}
		if _, _, err := c.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "Accept") {
			t.Errorf("a choice without a place or a function: %v", err)
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
