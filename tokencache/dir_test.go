package tokencache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

func TestOpenDirNeedsADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	inner := filepath.Join(t.TempDir(), "inner")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Mkdir(inner, 0o700), os.WriteFile(filepath.Join(inner, "entries"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		file:                     file,
		filepath.Join(file, "x"): file,
		inner:                    filepath.Join(inner, "entries"),
		"":                       "OpenDir",
	} {
		_, err := tokencache.OpenDir(path)
		wantErr(t, err, tokencache.ErrUnavailable, says)
	}
}

func onlyFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	return filepath.Join(dir, files[0].Name())
}

// A directory that went away, with a removed disk for instance, is no logout.
func TestDirThatIsGoneIsUnavailable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	d := openDir(t, path)
	c := newCache(t, d, tokencache.KeyBytes(bytesKey(1)))
	v, err := c.Save(t.Context(), testKey, testRecord(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Load(t.Context(), testKey)
	wantErr(t, err, tokencache.ErrUnavailable, path)
	_, err = c.Save(t.Context(), testKey, testRecord(), v)
	wantErr(t, err, tokencache.ErrUnavailable, path)
	wantErr(t, c.Delete(t.Context(), testKey, v), tokencache.ErrUnavailable, path)
	wantErr(t, c.Preflight(t.Context(), testKey, testRecord()), tokencache.ErrUnavailable, path)
	_, err = c.Lock(t.Context(), testKey)
	wantErr(t, err, tokencache.ErrUnavailable, path)
	for _, err := range c.List(t.Context()) {
		wantErr(t, err, tokencache.ErrUnavailable, path)
	}
	// It works again once the program has started again.
	if _, err := openDir(t, path).Save(t.Context(), "x", nil, ""); err != nil {
		t.Error(err)
	}
}

func TestOpenDirRemovesOldLeftovers(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	v, err := d.Save(t.Context(), "x", []byte("data"), "")
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * time.Hour)
	entries := filepath.Join(path, "entries")
	for _, name := range []string{".tmp-old", ".tmp-new"} {
		if err := os.WriteFile(filepath.Join(entries, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.Chtimes(filepath.Join(entries, ".tmp-old"), long, long)
	for _, e := range []string{"entries", "locks"} { // what is no leftover may be as old
		files, _ := filepath.Glob(filepath.Join(path, e, "[^.]*"))
		for _, f := range files {
			os.Chtimes(f, long, long)
		}
	}
	d = openDir(t, path)
	left, _ := filepath.Glob(filepath.Join(entries, ".tmp-*"))
	if len(left) != 1 || filepath.Base(left[0]) != ".tmp-new" {
		t.Errorf("left over: %v", left)
	}
	if data, got, err := d.Load(t.Context(), "x"); string(data) != "data" || got != v || err != nil {
		t.Errorf("the entry is %q, %v", data, err)
	}
	for name := range d.List(t.Context(), "") {
		if name != "x" {
			t.Errorf("lists %q", name)
		}
	}
}

// The path stays the same when the program changes its working directory.
func TestOpenDirWithARelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	d, key := openDir(t, "tokens"), tokencache.KeyFile("key")
	first := mustKeys(t, key)
	t.Chdir(t.TempDir())
	unlock, err := d.Lock(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if !sameKeys(first, mustKeys(t, key)) {
		t.Error("another key file")
	}
}

// A caller that waits for a lock in vain gets an error that names the file.
func TestDirLockErrorNamesTheFile(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		path := t.TempDir()
		unlock, err := openDir(t, path).Lock(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = openDir(t, path).Lock(ctx, "x") // as another process would
		wantErr(t, err, context.DeadlineExceeded, filepath.Join(path, "locks"))
	})
}

// A program that runs must not keep the user from moving or removing the directory.
func TestOpenDirDoesNotPinIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	store := openDir(t, path)
	if err := os.Rename(path, path+"-moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path + "-moved"); err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(store)
}
