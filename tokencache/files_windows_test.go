package tokencache_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A scan is a virus scanner that looks at a file for a moment.
func scan(t *testing.T, open func(path string) (*os.File, error), path string) {
	t.Helper()
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { f.Close() })
}

// openAlone lets nobody else open the file, nor replace or remove it, while os.Open
// only keeps others from doing the latter.
func openAlone(path string) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ, 0, nil, syscall.OPEN_EXISTING, 0, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(h), path), nil
}

func TestDirWaitsForScanners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	d := openDir(t, path)
	v, err := d.Save(t.Context(), "x", []byte("old"), "")
	if err != nil {
		t.Fatal(err)
	}
	entry, writeLock := onlyFile(t, filepath.Join(path, "entries")), onlyFile(t, filepath.Join(path, "locks"))
	scan(t, openAlone, entry)
	if _, _, err := d.Load(t.Context(), "x"); err != nil {
		t.Errorf("Load: %v", err)
	}
	scan(t, openAlone, writeLock)
	if v, err = d.Save(t.Context(), "x", []byte("new"), v); err != nil {
		t.Errorf("Save while the lock is read: %v", err)
	}
	scan(t, os.Open, entry)
	if v, err = d.Save(t.Context(), "x", []byte("newer"), v); err != nil {
		t.Errorf("Save: %v", err)
	}
	scan(t, os.Open, entry)
	if err := d.Delete(t.Context(), "x", v); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

// A scanner looks at every new file, and Preflight makes one.
func TestPreflightWaitsForScanners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	d := openDir(t, path)
	scanned := make(chan struct{})
	t.Cleanup(func() { <-scanned })
	go func() {
		defer close(scanned)
		for t.Context().Err() == nil {
			files, _ := os.ReadDir(filepath.Join(path, "entries"))
			for _, file := range files {
				if f, err := os.Open(filepath.Join(path, "entries", file.Name())); err == nil {
					time.Sleep(100 * time.Millisecond)
					f.Close()
					return
				}
			}
		}
	}()
	for {
		if err := d.Preflight(t.Context(), "x", 1<<20); err != nil {
			t.Fatal(err)
		}
		select {
		case <-scanned:
			return
		default:
		}
	}
}

func TestKeyFileWaitsForScanners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	want, err := tokencache.KeyFile(path).Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	scan(t, openAlone, path)
	got, err := tokencache.KeyFile(path).Keys(t.Context())
	if err != nil || !bytes.Equal(got[0], want[0]) {
		t.Errorf("the key is not the one of before: %v", err)
	}
}
