package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

func absentIsNotEmpty(t *testing.T, s tokencache.Store) {
	_, v, err := s.Load(t.Context(), "a")
	wantErr(t, "Load of nothing", err, tokencache.ErrNotFound)
	if v != "" {
		t.Errorf("Load of nothing returned the version %q", v)
	}
	v = mustSave(t, s, "a", nil, "")
	if data, loaded := mustLoad(t, s, "a"); len(data) != 0 || loaded != v {
		t.Errorf("loaded %q at %q, saved nothing at %q", data, loaded, v)
	}
	_, err = s.Save(t.Context(), "a", []byte("x"), "")
	wantErr(t, "Save over an empty entry as if it were absent", err, tokencache.ErrConflict)
	if err := s.Delete(t.Context(), "a", v); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Load(t.Context(), "a")
	wantErr(t, "Load of a deleted entry", err, tokencache.ErrNotFound)
	mustSave(t, s, "a", []byte("again"), "")
}

func saveWantsVersion(t *testing.T, s tokencache.Store) {
	_, err := s.Save(t.Context(), "a", []byte("x"), "no such version")
	wantErr(t, "Save of an absent entry at a version", err, tokencache.ErrConflict)
	_, _, err = s.Load(t.Context(), "a")
	wantErr(t, "Load after a conflict", err, tokencache.ErrNotFound)

	v1 := mustSave(t, s, "a", []byte("one"), "")
	v2 := mustSave(t, s, "a", []byte("two"), v1)
	if v1 == v2 {
		t.Errorf("different data have the same version %q", v1)
	}
	for _, old := range []tokencache.Version{"", v1, "no such version"} {
		_, err := s.Save(t.Context(), "a", []byte("three"), old)
		wantErr(t, fmt.Sprintf("Save at version %q instead of %q", old, v2), err, tokencache.ErrConflict)
		if data, v := mustLoad(t, s, "a"); string(data) != "two" || v != v2 {
			t.Fatalf("a refused Save changed the entry to %q at %q", data, v)
		}
	}
	// The version of a deleted entry is of no use for the next one of that name.
	if err := s.Delete(t.Context(), "a", v2); err != nil {
		t.Fatal(err)
	}
	_, err = s.Save(t.Context(), "a", []byte("three"), v2)
	wantErr(t, "Save of a deleted entry at its last version", err, tokencache.ErrConflict)
}

func deleteWantsVersion(t *testing.T, s tokencache.Store) {
	for _, old := range []tokencache.Version{"", "no such version"} {
		if err := s.Delete(t.Context(), "a", old); err != nil {
			t.Errorf("Delete of an absent entry at version %q: %v", old, err)
		}
	}
	v1 := mustSave(t, s, "a", []byte("one"), "")
	v2 := mustSave(t, s, "a", []byte("two"), v1)
	for _, old := range []tokencache.Version{"", v1, "no such version"} {
		err := s.Delete(t.Context(), "a", old)
		wantErr(t, fmt.Sprintf("Delete at version %q instead of %q", old, v2), err, tokencache.ErrConflict)
		if data, _ := mustLoad(t, s, "a"); string(data) != "two" {
			t.Fatalf("a refused Delete changed the entry to %q", data)
		}
	}
}

// deleteLeavesTrace checks a store that tells a lost entry from a deleted one: if a logout were
// taken for a loss, the login would be put back.
func deleteLeavesTrace(t *testing.T, s tokencache.Store) {
	lost := func(name string) bool {
		t.Helper()
		_, _, err := s.Load(t.Context(), name)
		wantErr(t, fmt.Sprintf("Load(%q) of what is absent", name), err, tokencache.ErrNotFound)
		if _, ok := errors.AsType[*tokencache.LostError](err); ok {
			t.Fatalf("Load(%q) of what was deleted, or never was there, says that it is surely lost: %v", name, err)
		}
		return errors.Is(err, tokencache.ErrNoTrace)
	}
	if !lost("a") {
		t.Log("the store does not tell what was lost from what was deleted")
	}
	for range 2 {
		v := mustSave(t, s, "a", []byte("x"), "")
		if err := s.Delete(t.Context(), "a", v); err != nil {
			t.Fatal(err)
		}
		if lost("a") {
			t.Fatal("a deleted entry looks as if it had been lost")
		}
	}
	for range 2 { // twice, like a logout from a login that the store has lost
		if err := s.Delete(t.Context(), "b", "no such version"); err != nil {
			t.Fatal(err)
		}
		if lost("b") {
			t.Fatal("the Delete of an entry that was lost leaves no trace")
		}
	}
	mustSave(t, s, "c", nil, "")
	if lister, ok := s.(tokencache.Lister); ok {
		for name, err := range lister.List(t.Context(), "") {
			if name != "c" || err != nil {
				t.Errorf("lists %q, %v after a Delete", name, err)
			}
		}
	}
}

func anyBytes(t *testing.T, s tokencache.Store) {
	large := make([]byte, 64<<10)
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	var v tokencache.Version
	for _, data := range [][]byte{{0}, {}, []byte("\r\n"), []byte("a\x00b\x1a\xff\xfe"), large, large[:2561], []byte(" ")} {
		v = mustSave(t, s, "a", data, v)
		if got, _ := mustLoad(t, s, "a"); !bytes.Equal(got, data) {
			t.Fatalf("saved %d bytes, loaded %d others", len(data), len(got))
		}
	}
}

// oddNames are hard for file systems, query languages and item names.
func oddNames() []string {
	names := []string{
		"a", "A", "ab", "aB", ".", "..", "../a", "./a", "a/", "/", "/etc/x", `\`, `..\a`, "a/b", "a b", " a", "a ", "a.", "a:b", "a::b",
		"\x00", "a\x00", "\n", "\xff\xfe", "é", "e\u0301", "con", "CON", "nul.txt", "com1", "*?<>|\"'", "%2e", "%", "~", "$HOME", ".tmp-x", "{a}", "[a]",
	}
	all := make([]byte, 128)
	for i := range all {
		all[i] = byte(i)
	}
	names = append(names, string(all))
	for i := range all {
		all[i] += 128
	}
	return append(names, string(all), strings.Repeat("x", 128), strings.Repeat("X", 128), strings.Repeat("x", 127))
}

func anyName(t *testing.T, s tokencache.Store) {
	names := oddNames()
	for _, name := range names {
		_, _, err := s.Load(t.Context(), name)
		wantErr(t, fmt.Sprintf("Load(%q) before it was saved", name), err, tokencache.ErrNotFound)
		mustSave(t, s, name, []byte(name), "")
	}
	for _, name := range names {
		if data, _ := mustLoad(t, s, name); string(data) != name {
			t.Errorf("Load(%q) returned the entry %q", name, data)
		}
		mustUnlock(t, mustLock(t, s, name))
	}
	for _, name := range []string{"", strings.Repeat("x", 129)} {
		if _, err := s.Save(t.Context(), name, nil, ""); err == nil {
			t.Errorf("Save took a name of %d bytes", len(name))
		}
	}
}

func dataBelongsToCaller(t *testing.T, s tokencache.Store) {
	saved := []byte("original")
	mustSave(t, s, "a", saved, "")
	saved[0] = 'X'
	loaded, _ := mustLoad(t, s, "a")
	if string(loaded) != "original" {
		t.Fatal("Save kept the caller's data")
	}
	loaded[0] = 'X'
	_ = append(loaded[:1], "yyyyyyyyyyyy"...)
	if loaded, _ = mustLoad(t, s, "a"); string(loaded) != "original" {
		t.Error("Load returned the store's own data")
	}
}

func contextDone(t *testing.T, s tokencache.Store) {
	v := mustSave(t, s, "a", []byte("one"), "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Load(ctx, "a")
	wantErr(t, "Load", err, context.Canceled)
	_, err = s.Save(ctx, "a", []byte("two"), v)
	wantErr(t, "Save", err, context.Canceled)
	wantErr(t, "Delete", s.Delete(ctx, "a", v), context.Canceled)
	_, err = s.Lock(ctx, "a")
	wantErr(t, "Lock", err, context.Canceled)
	if data, _ := mustLoad(t, s, "a"); string(data) != "one" {
		t.Errorf("the entry changed to %q", data)
	}
}

func concurrentIncrements(t *testing.T, s tokencache.Store, total int) {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(total))
	for range 4 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := increment(t.Context(), s, "counter"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if data, _ := mustLoad(t, s, "counter"); string(data) != strconv.Itoa(total) {
		t.Errorf("the counter is at %s after %d increments", data, total)
	}
}

// increment adds one to the number in an entry, by compare-and-swap.
func increment(ctx context.Context, s tokencache.Store, name string) error {
	for {
		data, v, err := s.Load(ctx, name)
		if errors.Is(err, tokencache.ErrNotFound) {
			data = []byte("0")
		} else if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(data))
		if err != nil {
			return err
		}
		if _, err = s.Save(ctx, name, []byte(strconv.Itoa(n+1)), v); !errors.Is(err, tokencache.ErrConflict) {
			return err
		}
	}
}
