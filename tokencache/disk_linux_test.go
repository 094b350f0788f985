package tokencache_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// smallDisk mounts a file system of 256 KiB.
func smallDisk(t *testing.T) (path string) {
	t.Helper()
	return realparts.Mount(t, "size=256k")
}

// notAsRoot gives the calling goroutine the rights of nobody to files, until the
// test ends: root may do everything.
func notAsRoot(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Setfsuid(0) }) // and the thread ends with the goroutine
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

// Who fills the disk while a refresh token is being spent does not cost its successor:
// what the saves need was there before.
func TestDirOnADiskThatIsFilledDuringARefresh(t *testing.T) {
	for _, c := range []struct {
		name, options string
		fill          func(path string) error
	}{
		{"no space", "size=256k", func(path string) error {
			f, err := os.Create(filepath.Join(path, "filler"))
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			f.Close()
			return err
		}},
		{"no inodes", "size=1m,nr_inodes=64", func(path string) (err error) {
			for n := 0; err == nil; n++ {
				var f *os.File
				f, err = os.Create(filepath.Join(path, fmt.Sprintf("filler%d", n)))
				f.Close()
			}
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := realparts.Mount(t, c.options)
			cache := newCache(t, openDir(t, path), tokencache.KeyBytes(bytesKey(1)))
			v, err := cache.Save(t.Context(), testKey, testRecord(), "")
			if err != nil {
				t.Fatal(err)
			}
			unlock, err := cache.Lock(t.Context(), testKey)
			if err != nil {
				t.Fatal(err)
			}
			r := testRecord()
			for range 2 { // the second begins with what the first has left
				if err := cache.Preflight(t.Context(), testKey, r); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.fill(path); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			for range 2 { // the note that it is under way, and what it has brought
				r.Generation++
				r.RefreshToken += "longer"
				if v, err = cache.Save(t.Context(), testKey, r, v); err != nil {
					t.Fatal(err)
				}
			}
			if err := unlock(); err != nil {
				t.Error(err)
			}
			if got, at, err := cache.Load(t.Context(), testKey); err != nil || at != v || got.RefreshToken != r.RefreshToken {
				t.Errorf("%v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(path, "entries", ".tmp-*")); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// Where no file can be made, a login that is removed leaves its trace all the same, in the place of
// the file that is gone. Without one, a process that still has the login would take it for lost.
func TestDirLeavesATraceWithoutInodes(t *testing.T) {
	path := realparts.Mount(t, "size=1m,nr_inodes=40")
	dir := openDir(t, path)
	cache := newCache(t, dir, tokencache.KeyBytes(bytesKey(1)))
	v, err := cache.Save(t.Context(), testKey, testRecord(), "")
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := cache.Lock(t.Context(), testKey) // The lock has a file of its own.
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for n := 0; err == nil; n++ {
		var f *os.File
		f, err = os.Create(filepath.Join(path, fmt.Sprintf("filler%d", n)))
		f.Close()
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := cache.Delete(t.Context(), testKey, v); err != nil {
		t.Error(err)
	}
	if _, _, err := cache.Load(t.Context(), testKey); !errors.Is(err, tokencache.ErrNotFound) || errors.Is(err, tokencache.ErrNoTrace) {
		t.Errorf("nothing tells a logout from a loss: %v", err)
	}
}
