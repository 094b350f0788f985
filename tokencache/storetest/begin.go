package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A renewer is a store with what Cache.Begin of package tokencache needs.
type renewer interface {
	Begin(ctx context.Context, name string, data []byte, old tokencache.Version, place string) (
		v tokencache.Version, end func(context.Context, []byte, tokencache.Version) (tokencache.Version, error), unlock func() error, err error)
}

// canBegin reports whether Begin is there, and works with this server.
func canBegin(t *testing.T, s tokencache.Store) (renewer, bool) {
	t.Helper()
	r, ok := s.(renewer)
	if ok {
		v := mustSave(t, s, "can begin", nil, "")
		_, _, unlock, err := r.Begin(t.Context(), "can begin", nil, v, "")
		if err == nil {
			mustUnlock(t, unlock)
		}
		_, v = mustLoad(t, s, "can begin")
		if err := s.Delete(t.Context(), "can begin", v); err != nil {
			t.Fatal(err)
		}
		ok = !errors.Is(err, errors.ErrUnsupported)
	}
	if !ok {
		t.Log("the store begins no refresh in one step")
	}
	return r, ok
}

// placeOf returns the id of the place of s, or "".
func placeOf(t *testing.T, s tokencache.Store) string {
	t.Helper()
	placer, ok := s.(tokencache.Placer)
	if !ok {
		return ""
	}
	id, _, err := placer.Place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// begin checks what other sees while s begins and ends refreshes, and the other way round. They are
// one store, or two handles as two processes would have.
func begin(t *testing.T, s, other tokencache.Store) {
	r, ok := canBegin(t, s)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want := func(when, text string, v tokencache.Version) {
		t.Helper()
		if data, at := mustLoad(t, other, "a"); string(data) != text || at != v {
			t.Fatalf("%s the entry is %q at %q, want %q at %q", when, data, at, text, v)
		}
	}
	_, _, _, err := r.Begin(ctx, "a", []byte("journal"), "no such version", "")
	wantErr(t, "Begin of what is not there", err, tokencache.ErrConflict)
	_, _, err = other.Load(ctx, "a")
	wantErr(t, "Load of what was not there when a refresh was begun", err, tokencache.ErrNotFound)

	first := mustSave(t, s, "a", []byte("one"), "")
	data := []byte("journal")
	place := placeOf(t, s)
	if place != "" {
		_, _, _, err = r.Begin(ctx, "a", data, first, "not "+place)
		wantErr(t, "Begin of what was elsewhere", err, tokencache.ErrConflict)
		want("After Begin of what was elsewhere", "one", first)
	}
	v, end, unlock, err := r.Begin(ctx, "a", data, first, place)
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	data[0] = 'X'
	want("After Begin", "journal", v)
	wantLocked(t, other, "a", 20*time.Millisecond)
	_, err = end(ctx, []byte("two"), first)
	wantErr(t, "end at a version that is not there any more", err, tokencache.ErrConflict)
	want("After an end that failed", "journal", v)
	wantLocked(t, other, "a", 20*time.Millisecond)
	second, err := end(ctx, []byte("two"), v)
	if err != nil {
		t.Fatalf("end: %v", err)
	}
	want("After end", "two", second)
	next := mustLock(t, other, "a") // although unlock was not called
	mustUnlock(t, unlock)
	mustUnlock(t, unlock)
	wantLocked(t, s, "a", 20*time.Millisecond) // it is not this one's

	// While somebody else has the lock, Begin waits for it, or for a change.
	begun := make(chan error, 1)
	try := func() {
		var err error
		_, _, unlock, err = r.Begin(ctx, "a", []byte("journal"), second, "")
		begun <- err
	}
	go try()
	select {
	case err := <-begun:
		t.Fatalf("Begin while somebody else has the lock: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	third := mustSave(t, other, "a", []byte("three"), second)
	wantErr(t, "Begin when the entry was changed", <-begun, tokencache.ErrConflict)
	want("After a Begin that failed", "three", third)
	second = third
	go try()
	time.Sleep(50 * time.Millisecond)
	mustUnlock(t, next)
	if err := <-begun; err != nil {
		t.Fatalf("Begin while somebody else had the lock for a while: %v", err)
	}
	wantLocked(t, other, "a", 20*time.Millisecond)
	mustUnlock(t, unlock) // without end
	mustUnlock(t, mustLock(t, other, "a"))
	if data, _ := mustLoad(t, other, "a"); string(data) != "journal" {
		t.Fatalf("after unlock without end the entry is %q", data)
	}

	// What has failed holds no lock.
	_, _, _, err = r.Begin(ctx, "a", []byte("x"), second, "")
	wantErr(t, "Begin at a version that was replaced", err, tokencache.ErrConflict)
	mustUnlock(t, mustLock(t, other, "a"))
	done, stop := context.WithCancel(ctx)
	stop()
	_, now := mustLoad(t, s, "a")
	_, _, _, err = r.Begin(done, "a", []byte("x"), now, "")
	wantErr(t, "Begin with a context that is done", err, context.Canceled)
	mustUnlock(t, mustLock(t, other, "a"))
}

// beginExcludes counts what was begun and ended at the same time.
func beginExcludes(t *testing.T, s tokencache.Store) {
	if _, ok := canBegin(t, s); !ok {
		return
	}
	const workers, rounds = 4, 20
	mustSave(t, s, "counter", []byte("0"), "")
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				if err := renew(t.Context(), s, "counter"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if data, _ := mustLoad(t, s, "counter"); string(data) != strconv.Itoa(workers*rounds) {
		t.Errorf("%d refreshes were counted, want %d", data, workers*rounds)
	}
}

// renew adds one to the number in an entry as a refresh does. An end that fails means that somebody
// else had the lock too.
func renew(ctx context.Context, s tokencache.Store, name string) error {
	for {
		data, v, err := s.Load(ctx, name)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(data))
		if err != nil {
			continue // It is a journal.
		}
		v, end, unlock, err := s.(renewer).Begin(ctx, name, []byte("journal"), v, "")
		if errors.Is(err, tokencache.ErrConflict) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err = end(ctx, []byte(strconv.Itoa(n+1)), v); err != nil {
			err = fmt.Errorf("under the lock: %w", err)
		}
		return errors.Join(err, unlock())
	}
}

// beginThenDie checks that a process that is killed in the middle of a refresh leaves the journal,
// and not the lock.
func beginThenDie(t *testing.T, arg string, s tokencache.Store) {
	if _, ok := canBegin(t, s); !ok {
		return
	}
	mustSave(t, s, "a", []byte("one"), "")
	begun := startChildren(t, 1, job{Arg: arg, Do: "begin"})[0]
	begun.wantLine("begun")
	wantLocked(t, s, "a", 30*time.Millisecond)
	begun.kill()
	unlock := mustLock(t, s, "a")
	if data, _ := mustLoad(t, s, "a"); string(data) != "journal" {
		t.Errorf("a process that was killed after Begin has left %q", data)
	}
	mustUnlock(t, unlock)

	const processes, each = 3, 10
	mustSave(t, s, "counter", []byte("0"), "")
	for _, c := range startChildren(t, processes, job{Arg: arg, Do: "renew", Count: each}) {
		c.wait()
	}
	if data, _ := mustLoad(t, s, "counter"); string(data) != strconv.Itoa(processes*each) {
		t.Errorf("%d processes have counted %s refreshes, want %d each", processes, data, each)
	}
}
