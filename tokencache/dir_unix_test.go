//go:build unix

// Windows has no modes, and symbolic links need a privilege there.

package tokencache_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

func TestDirIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d := openDir(t, path)
	if _, err := d.Save(t.Context(), "x", []byte("data"), ""); err != nil {
		t.Fatal(err)
	}
	unlock, err := d.Lock(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	files := 0
	err = filepath.Walk(path, func(file string, info os.FileInfo, err error) error {
		want := os.FileMode(0o600)
		if err == nil && info.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", file, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil || files != 3 { // the entry, its lock and its write lock
		t.Errorf("%d files, %v", files, err)
	}
}

func TestOpenDirRefuses(t *testing.T) {
	parent := t.TempDir()
	at := func(name string) string { return filepath.Join(parent, name) }
	if err := errors.Join(
		os.Mkdir(at("open"), 0o700), os.Chmod(at("open"), 0o770),
		os.MkdirAll(at("inner/entries"), 0o700), os.Chmod(at("inner/entries"), 0o777),
		os.Mkdir(at("link"), 0o700), os.Symlink(at("open"), at("link/entries")),
	); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		at("open"):  "chmod 0700 " + at("open"),
		at("inner"): "chmod 0700 " + at("inner/entries"),
		at("link"):  at("link/entries"),
	} {
		_, err := tokencache.OpenDir(path)
		wantErr(t, err, tokencache.ErrUnavailable, says)
	}
	if os.Getuid() == 0 {
		if err := errors.Join(os.Mkdir(at("foreign"), 0o700), os.Chown(at("foreign"), 12345, -1)); err != nil {
			t.Fatal(err)
		}
		_, err := tokencache.OpenDir(at("foreign"))
		wantErr(t, err, tokencache.ErrUnavailable, "12345", "chown")
	}
}

// A link in the place of an entry must not lead out of the directory.
func TestDirDoesNotFollowLinksOut(t *testing.T) {
	parent := t.TempDir()
	d := openDir(t, filepath.Join(parent, "d"))
	v, err := d.Save(t.Context(), "x", []byte("inside"), "")
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(parent, "outside")
	entry := onlyFile(t, filepath.Join(parent, "d", "entries"))
	lock := onlyFile(t, filepath.Join(parent, "d", "locks"))
	if err := errors.Join(os.WriteFile(outside, []byte("inside"), 0o600), os.Remove(entry), os.Symlink(outside, entry)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Load(t.Context(), "x"); !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("Load through a link: %v", err)
	}
	if _, err := d.Save(t.Context(), "x", []byte("new"), v); !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("Save through a link: %v", err)
	}
	if err := errors.Join(os.Remove(entry), os.Remove(lock), os.Symlink(filepath.Join(parent, "created"), lock)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Save(t.Context(), "x", []byte("new"), ""); !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("Save with a lock that is a link: %v", err)
	}
	if data, _ := os.ReadFile(outside); string(data) != "inside" {
		t.Errorf("a file outside became %q", data)
	}
	if _, err := os.Stat(filepath.Join(parent, "created")); err == nil {
		t.Error("a lock file was created outside")
	}
}

func TestDirWithoutPermission(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	os.Chmod(filepath.Join(path, "entries"), 0o500)
	defer os.Chmod(filepath.Join(path, "entries"), 0o700)
	if os.Getuid() == 0 {
		notAsRoot(t)
	}
	wantErr(t, d.Preflight(t.Context(), "x", 10), tokencache.ErrUnavailable, path, "owner and the mode")
}
