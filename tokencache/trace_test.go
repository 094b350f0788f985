package tokencache

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An entry whose file somebody has removed is lost, one that was deleted is not; and what
// is left of it holds nothing and is no entry, for earlier versions either.
func TestDirTellsALossFromADelete(t *testing.T) {
	path := t.TempDir()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	lost := func() bool {
		t.Helper()
		_, _, err := d.Load(t.Context(), "a")
		if !errors.Is(err, ErrNotFound) {
			t.Fatalf("Load: %v", err)
		}
		return errors.Is(err, ErrNoTrace)
	}
	save := func() Version {
		t.Helper()
		v, err := d.Save(t.Context(), "a", []byte("secret"), "")
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if err := d.Delete(t.Context(), "a", save()); err != nil {
		t.Fatal(err)
	}
	if lost() {
		t.Error("a deleted entry is said to be lost")
	}
	trace := filepath.Join(path, filepath.FromSlash(traceFile("a")))
	if data, err := os.ReadFile(trace); err != nil || len(data) != 0 {
		t.Errorf("the trace is %q, %v", data, err)
	}
	if _, ok := decodeName(filepath.Base(trace)); ok {
		t.Error("the trace has the name of an entry")
	}
	old := time.Now().Add(-30 * 24 * time.Hour)
	for _, gone := range []bool{false, true} {
		if err := os.Chtimes(trace, old, old); err != nil {
			t.Fatal(err)
		}
		if d, err = OpenDir(path); err != nil {
			t.Fatal(err)
		}
		if lost() != gone {
			t.Errorf("a trace of %v is forgotten: %v", old, !gone)
		}
		old = old.Add(-3 * 24 * time.Hour)
	}
	save()
	if err := os.Remove(filepath.Join(path, filepath.FromSlash(entryFile("a")))); err != nil {
		t.Fatal(err)
	}
	if !lost() {
		t.Error("an entry that was removed by hand is said to be deleted")
	}
}

// A new entry ends the trace of the last one.
func TestANewEntryEndsTheTrace(t *testing.T) {
	path := t.TempDir()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		v, err := d.Save(t.Context(), "a", nil, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Delete(t.Context(), "a", v); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Save(t.Context(), "a", nil, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, filepath.FromSlash(traceFile("a")))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the trace: %v", err)
	}
}
