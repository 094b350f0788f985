package tokencache_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A virus scanner opens a file without permission for others to replace or remove
// it, and so does os.Open.
func TestDirWaitsForReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	d := openDir(t, path)
	v, err := d.Save(t.Context(), "x", []byte("old"), "")
	if err != nil {
		t.Fatal(err)
	}
	scan := func() {
		t.Helper()
		f, err := os.Open(onlyFile(t, filepath.Join(path, "entries")))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(100*time.Millisecond, func() { f.Close() })
	}
	scan()
	if v, err = d.Save(t.Context(), "x", []byte("new"), v); err != nil {
		t.Errorf("Save: %v", err)
	}
	scan()
	if err := d.Delete(t.Context(), "x", v); err != nil {
		t.Errorf("Delete: %v", err)
	}
}
