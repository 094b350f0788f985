package tokencache_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

func needUnix(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes, and symbolic links need a privilege")
	}
}

func TestDirIsPrivate(t *testing.T) {
	needUnix(t)
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

func TestOpenDirRefuses(t *testing.T) {
	needUnix(t)
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
	needUnix(t)
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
	for name := range d.List(t.Context()) {
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

// A full disk must be noticed before a refresh token is spent, and must not cost
// what is stored.
func TestDirOnAFullDisk(t *testing.T) {
	path := smallDisk(t)
	d := openDir(t, path)
	c := newCache(t, d, tokencache.KeyBytes(bytesKey(1)))
	v, err := c.Save(t.Context(), testKey, testRecord(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Preflight(t.Context(), testKey, testRecord()); err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(filepath.Join(path, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	filler.Close()
	wantErr(t, c.Preflight(t.Context(), testKey, testRecord()), tokencache.ErrUnavailable, path, "free some space")
	_, err = c.Save(t.Context(), testKey, testRecord(), v)
	wantErr(t, err, tokencache.ErrUnavailable, path, "free some space")
	if _, got, err := c.Load(t.Context(), testKey); err != nil || got != v {
		t.Errorf("after a failed Save: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(path, "entries", ".tmp-*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Save(t.Context(), testKey, testRecord(), v); err != nil {
		t.Errorf("once there is space: %v", err)
	}
}

// What is stored can still be used when it cannot be changed any more.
func TestDirOnAReadOnlyDisk(t *testing.T) {
	path := smallDisk(t)
	c := newCache(t, openDir(t, path), tokencache.KeyBytes(bytesKey(1)))
	v, err := c.Save(t.Context(), testKey, testRecord(), "")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "remount,ro", path).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	c = newCache(t, openDir(t, path), tokencache.KeyBytes(bytesKey(1)))
	wantErr(t, c.Preflight(t.Context(), testKey, testRecord()), tokencache.ErrUnavailable, path, "make the file system writable")
	_, err = c.Save(t.Context(), testKey, testRecord(), v)
	wantErr(t, err, tokencache.ErrUnavailable, path, "make the file system writable")
	if _, got, err := c.Load(t.Context(), testKey); err != nil || got != v {
		t.Error(err)
	}
}

func TestDirWithoutPermission(t *testing.T) {
	needUnix(t)
	path := t.TempDir()
	d := openDir(t, path)
	os.Chmod(filepath.Join(path, "entries"), 0o500)
	defer os.Chmod(filepath.Join(path, "entries"), 0o700)
	if os.Getuid() == 0 {
		notAsRoot(t)
	}
	wantErr(t, d.Preflight(t.Context(), "x", 10), tokencache.ErrUnavailable, path, "owner and the mode")
}

// Who waits for a lock in vain says which file it is.
func TestDirLockErrorNamesTheFile(t *testing.T) {
	bubble(t, func(t *testing.T) {
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
