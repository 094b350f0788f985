package tokencache_test

import (
	"path/filepath"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// Space is kept for no longer than the lock.
func TestReserveEndsWithTheLock(t *testing.T) {
	path := t.TempDir()
	cache := newCache(t, openDir(t, path), tokencache.KeyBytes(bytesKey(1)))
	temps := func() int {
		left, _ := filepath.Glob(filepath.Join(path, "entries", ".tmp-*"))
		return len(left)
	}
	if err := cache.Preflight(t.Context(), testKey, testRecord()); err != nil || temps() != 0 {
		t.Errorf("%v; without the lock, %d files are kept", err, temps())
	}
	for range 2 {
		unlock, err := cache.Lock(t.Context(), testKey)
		if err == nil {
			err = cache.Preflight(t.Context(), testKey, testRecord())
		}
		if err != nil || temps() == 0 {
			t.Fatalf("%v; with the lock, %d files are kept", err, temps())
		}
		for range 2 {
			if err := unlock(); err != nil || temps() != 0 {
				t.Errorf("%v; after it, %d files are left", err, temps())
			}
		}
	}
}
