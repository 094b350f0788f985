package storetest

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// interrupted checks that each lock of a process that was killed, and no other, is named until
// somebody else has taken and released it.
func interrupted(t *testing.T, arg string, s tokencache.Store) {
	r, ok := s.(tokencache.Recoverer)
	if !ok {
		t.Log("the store is no Recoverer")
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	named := func() []string {
		t.Helper()
		names := map[string]bool{}
		for name, err := range r.Interrupted(ctx) {
			if err != nil {
				t.Fatalf("Interrupted: %v", err)
			}
			names[name] = true
		}
		return slices.Sorted(maps.Keys(names))
	}
	want := func(when string, names ...string) {
		t.Helper()
		if got := named(); !slices.Equal(got, names) {
			t.Fatalf("%s, Interrupted names %q, want %q", when, got, names)
		}
	}
	mine := mustLock(t, s, "mine")
	held := heldNames
	holder := startChildren(t, 1, job{Arg: arg, Do: "hold", Count: len(held)})[0]
	holder.wantLine("locked")
	want("while all live")
	holder.kill()
	for deadline := time.Now().Add(patience); len(named()) < len(held); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Interrupted names %q long after a process was killed that had locked %q", named(), held)
		}
	}
	for range r.Interrupted(ctx) {
		break // must not go on, nor be the last
	}
	want("after a process was killed", held...)
	unlock := mustLock(t, s, held[0])
	want("while somebody has one of its locks", held[1:]...)
	mustUnlock(t, unlock)
	want("when that was released", held[1:]...)
	for _, name := range held[1:] {
		mustUnlock(t, mustLock(t, s, name))
	}
	want("in the end")
	mustUnlock(t, mine)

	cancel()
	var last error
	for _, last = range r.Interrupted(ctx) {
	}
	wantErr(t, "Interrupted with a context that is done", last, context.Canceled)
}
