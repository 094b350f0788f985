//go:build unix

// Windows has no modes, symbolic links need a privilege there, and open files stay.

package tokencache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

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
		os.Mkdir(at("open"), 0o700), os.Chmod(at("open"), 0o777),
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

// Kubernetes gives the files of a volume to its group whenever it mounts it (fsGroup).
// They are still ours.
func TestDirIsTakenBackFromItsGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	keyPath := filepath.Join(path, "sealing-key")
	load := func() {
		t.Helper()
		c := newCache(t, openDir(t, path), tokencache.KeyFile(keyPath))
		_, v, err := c.Load(t.Context(), testKey)
		if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := c.Save(t.Context(), testKey, testRecord(), v); err != nil {
			t.Fatal(err)
		}
	}
	load()
	for range 2 { // pods
		err := filepath.Walk(path, func(file string, info os.FileInfo, err error) error {
			switch {
			case err != nil:
				return err
			case info.IsDir():
				return os.Chmod(file, 0o770|os.ModeSetgid)
			}
			return os.Chmod(file, 0o660)
		})
		if err != nil {
			t.Fatal(err)
		}
		load()
		for _, file := range []string{path, filepath.Join(path, "entries"), filepath.Join(path, "locks"), keyPath} {
			if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v, %v", file, info.Mode(), err)
			}
		}
	}
}

// Whoever opens a FIFO waits for somebody to write. It is no entry. (m20)
func TestDirWithAFIFO(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	if _, err := d.Save(t.Context(), "x", []byte("data"), ""); err != nil {
		t.Fatal(err)
	}
	entry := onlyFile(t, filepath.Join(path, "entries"))
	if err := errors.Join(os.Remove(entry), syscall.Mkfifo(entry, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, _, err := d.Load(t.Context(), "x")
	wantErr(t, err, tokencache.ErrUnavailable, "not a plain file", entry)
	_, err = d.Save(t.Context(), "x", []byte("new"), "")
	wantErr(t, err, tokencache.ErrUnavailable, "not a plain file")
}

// The entries of a directory and the locks of another that has come in its place would
// not belong together.
func TestDirThatWasReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	d := openDir(t, path)
	if err := os.Rename(path, path+"-old"); err != nil {
		t.Fatal(err)
	}
	_, err := d.Lock(t.Context(), "x")
	wantErr(t, err, tokencache.ErrUnavailable, path)
	openDir(t, path)
	_, err = d.Lock(t.Context(), "x")
	wantErr(t, err, tokencache.ErrUnavailable, "restart the program", path)
	_, err = d.Save(t.Context(), "x", []byte("data"), "")
	wantErr(t, err, tokencache.ErrUnavailable, "restart the program")
	if err := errors.Join(os.RemoveAll(path), os.Rename(path+"-old", path)); err != nil {
		t.Fatal(err)
	}
	unlock, err := d.Lock(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// A caller that waits gets an error that says who has the lock: it may be a process that was
// stopped.
func TestHolderOfALockIsNamed(t *testing.T) {
	path := t.TempDir()
	unlock, err := openDir(t, path).Lock(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	wait := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := openDir(t, path).Lock(ctx, "x")
		return err
	}
	wantErr(t, wait(), context.DeadlineExceeded, "this process has it")
	if err := os.WriteFile(onlyFile(t, filepath.Join(path, "locks")), []byte("4711                \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantErr(t, wait(), context.DeadlineExceeded, "process 4711 has it")
}

// What a refresh takes for its connections must not be missing when its result has to be
// stored.
func TestSaveWithoutFileDescriptors(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, t.TempDir())
	if err := d.Preflight(t.Context(), "x", 100); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	var taken []*os.File
	defer func() {
		for _, f := range taken {
			f.Close()
		}
	}()
	takeAll := func() {
		runtime.GC() // What earlier tests have left open is closed now, not later.
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				return
			}
			taken = append(taken, f)
		}
	}
	takeAll()
	v := tokencache.Version("")
	for range 3 {
		var err error
		if v, err = d.Save(t.Context(), "x", []byte("data"), v); err != nil {
			t.Fatal(err)
		}
	}
	// Where even these cannot be had, that is said before anything is spent.
	takeAll()
	other := taken[0]
	taken = taken[1:]
	other.Close()
	wantErr(t, tokencache.WithoutSpare(d).Preflight(t.Context(), "x", 100), tokencache.ErrUnavailable, "ulimit -n")
}

// A lock file that somebody removes lets in who should wait, which nothing can prevent.
// So the first one is told. On Windows, an open file cannot be removed.
func TestUnlockTellsOfARemovedLockFile(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	for _, replaced := range []bool{false, true} {
		unlock, err := d.Lock(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(path, "locks", "*.lock"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		if replaced {
			other, err := openDir(t, path).Lock(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if err := other(); err != nil {
				t.Error(err)
			}
		}
		wantErr(t, unlock(), tokencache.ErrUnavailable, files[0])
		if unlock, err = d.Lock(t.Context(), "x"); err != nil || unlock() != nil {
			t.Error("the next lock:", err)
		}
	}
}
