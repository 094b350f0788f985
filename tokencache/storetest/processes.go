package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// RunShared is Run for a store that several processes share. It also starts processes that open
// the same store and are killed at bad moments. For every subtest, prepare makes a new, empty
// store and returns the argument with which open opens it, in this process and in the others.
// TestMain must call Child with open.
func RunShared(t *testing.T, prepare func(t *testing.T) (arg string), open func(arg string) (tokencache.Store, error), opts ...Option) {
	mustOpen := func(t *testing.T, arg string) tokencache.Store {
		t.Helper()
		s, err := open(arg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	c := newConfig(opts)
	Run(t, func(t *testing.T) tokencache.Store { return mustOpen(t, prepare(t)) }, opts...)

	for _, check := range []struct {
		name string
		f    func(t *testing.T, arg string, s tokencache.Store)
	}{
		{"processes exclude each other", processesExclude},
		{"processes increment", func(t *testing.T, arg string, s tokencache.Store) { processesIncrement(t, arg, s, c.increments) }},
		{"lock is released by SIGKILL", lockReleasedByKill},
		{"interrupted", interrupted},
		{"no torn entry when writers are killed", noTornEntry},
		{"processes see changes while they wait", func(t *testing.T, arg string, s tokencache.Store) { lockAtVersion(t, mustOpen(t, arg), s) }},
		{"processes begin and end", func(t *testing.T, arg string, s tokencache.Store) { begin(t, mustOpen(t, arg), s) }},
		{"processes are killed after begin", beginThenDie},
		{"processes see each other", func(t *testing.T, arg string, s tokencache.Store) { seeEachOther(t, s, mustOpen(t, arg)) }},
	} {
		t.Run(check.name, func(t *testing.T) {
			t.Parallel()
			arg := prepare(t)
			check.f(t, arg, mustOpen(t, arg))
		})
	}
}

// seeEachOther checks two handles on one store, as two processes would have.
func seeEachOther(t *testing.T, a, b tokencache.Store) {
	v := mustSave(t, a, "x", []byte("one"), "")
	if data, seen := mustLoad(t, b, "x"); string(data) != "one" || seen != v {
		t.Errorf("saved one at %q, the other handle sees %q at %q", v, data, seen)
	}
	mustSave(t, b, "x", []byte("two"), v)
	_, err := a.Save(t.Context(), "x", []byte("three"), v)
	wantErr(t, "Save at a version that the other handle has replaced", err, tokencache.ErrConflict)
	unlock := mustLock(t, a, "x")
	wantLocked(t, b, "x", 50*time.Millisecond)
	mustUnlock(t, unlock)
	mustUnlock(t, mustLock(t, b, "x"))
	samePlace(t, a, b)
}

// samePlace checks that two handles on one store are in one place, also when something was
// saved.
func samePlace(t *testing.T, a, b tokencache.Store) {
	var first [2]string
	for i, s := range []tokencache.Store{a, b, a} {
		p, ok := s.(tokencache.Placer)
		if !ok {
			return
		}
		id, name, err := p.Place(t.Context())
		if err != nil {
			t.Fatalf("Place: %v", err)
		}
		if now := [2]string{id, name}; i == 0 {
			first = now
		} else if now != first {
			t.Errorf("one store is in two places: %q and %q", first, now)
		}
		mustSave(t, s, fmt.Sprint("place ", i), nil, "")
	}
}

func processesExclude(t *testing.T, arg string, s tokencache.Store) {
	const processes, turns = 4, 15
	mustSave(t, s, "turns", []byte("0"), "")
	for _, c := range startChildren(t, processes, job{Arg: arg, Do: "turns", Count: turns}) {
		c.wait()
	}
	if data, _ := mustLoad(t, s, "turns"); string(data) != strconv.Itoa(processes*turns) {
		t.Errorf("%d processes took %d turns each and counted %s", processes, turns, data)
	}
}

func processesIncrement(t *testing.T, arg string, s tokencache.Store, most int) {
	const processes = 4
	each := min(100, most/processes)
	for _, c := range startChildren(t, processes, job{Arg: arg, Do: "increment", Count: each}) {
		c.wait()
	}
	if data, _ := mustLoad(t, s, "counter"); string(data) != strconv.Itoa(processes*each) {
		t.Errorf("the counter is at %s after %d increments", data, processes*each)
	}
}

func lockReleasedByKill(t *testing.T, arg string, s tokencache.Store) {
	for range 5 {
		holder := startChildren(t, 1, job{Arg: arg, Do: "hold"})[0]
		holder.wantLine("locked")
		wantLocked(t, s, "a", 30*time.Millisecond)
		holder.kill()
		mustUnlock(t, mustLock(t, s, "a"))
	}
}

func noTornEntry(t *testing.T, arg string, s tokencache.Store) {
	mustSave(t, s, "a", checksummed(0), "")
	for round := range 15 {
		writers := startChildren(t, 2, job{Arg: arg, Do: "write"})
		for _, w := range writers {
			w.wantLine("saved")
		}
		for end := time.Now().Add(rand.N(40 * time.Millisecond)); time.Now().Before(end); {
			checkWhole(t, s, "while writers run")
		}
		for _, w := range writers {
			w.kill()
		}
		checkWhole(t, s, "after writers were killed")
		// What killed processes have left behind does not stop the next one. A server
		// may still carry out what they had sent, once for each of them.
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := tokencache.ErrConflict
		for tries := 0; errors.Is(err, tokencache.ErrConflict) && tries <= len(writers); tries++ {
			_, v := mustLoad(t, s, "a")
			_, err = s.Save(ctx, "a", checksummed(round), v)
		}
		cancel()
		if err != nil {
			t.Fatalf("Save after writers were killed: %v", err)
		}
	}
	if lister, ok := s.(tokencache.Lister); ok {
		for name, err := range lister.List(t.Context(), "") {
			if name != "a" || err != nil {
				t.Errorf("writers that were killed left %q, %v in the list", name, err)
			}
		}
	}
}

func checkWhole(t *testing.T, s tokencache.Store, when string) {
	t.Helper()
	data, _ := mustLoad(t, s, "a")
	if len(data) < sha256.Size || sha256.Sum256(data[sha256.Size:]) != [sha256.Size]byte(data) {
		t.Fatalf("%s: the entry is torn: %d bytes", when, len(data))
	}
}

// checksummed returns up to 64 KiB of data with a checksum that shows if a byte is missing.
func checksummed(seed int) []byte {
	body := bytes.Repeat([]byte(fmt.Sprintf("%d %d ", seed, rand.Uint64())), 1+rand.IntN(2000))
	sum := sha256.Sum256(body)
	return append(sum[:], body...)
}

// heldNames are the names for the job "hold", which locks the first of them.
var heldNames = []string{"a", "also a", "also b"}
