package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

func lockExcludes(t *testing.T, s tokencache.Store) {
	const workers, rounds = 8, 25
	var wg sync.WaitGroup
	var holders, total int // guarded by the lock alone: the race detector watches too
	for range workers {
		wg.Go(func() {
			for range rounds {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				unlock, err := s.Lock(ctx, "a")
				cancel()
				if err != nil {
					t.Error(err)
					return
				}
				if holders++; holders != 1 {
					t.Errorf("%d hold the lock at the same time", holders)
				}
				time.Sleep(10 * time.Microsecond)
				total++
				holders--
				if err := unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if total != workers*rounds {
		t.Errorf("%d turns were counted, want %d", total, workers*rounds)
	}
}

func lockHonoursContext(t *testing.T, s tokencache.Store) {
	unlock := mustLock(t, s, "a")
	wantLocked(t, s, "a", 20*time.Millisecond)

	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() {
		_, err := s.Lock(ctx, "a")
		waiting <- err
	}()
	time.Sleep(20 * time.Millisecond) // it may be waiting by now, or not yet
	cancel()
	select {
	case err := <-waiting:
		wantErr(t, "Lock whose context was cancelled", err, context.Canceled)
	case <-time.After(patience):
		t.Fatal("Lock does not return when its context is cancelled")
	}
	mustUnlock(t, unlock)
	// The callers that gave up have left nothing behind.
	mustUnlock(t, mustLock(t, s, "a"))
}

func lockOutlastsTime(t *testing.T, s tokencache.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	unlock, err := s.Lock(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	cancel() // The context bounds the wait, not the lock.
	wantLocked(t, s, "a", time.Second)
	mustUnlock(t, unlock)
}

func lockIsApart(t *testing.T, s tokencache.Store) {
	unlock := mustLock(t, s, "a")
	_, _, err := s.Load(t.Context(), "a")
	wantErr(t, "Load of what is only locked", err, tokencache.ErrNotFound)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	v, err := s.Save(ctx, "a", []byte("one"), "")
	if err != nil {
		t.Fatalf("Save while the entry is locked: %v", err)
	}
	if _, _, err := s.Load(ctx, "a"); err != nil {
		t.Fatalf("Load while the entry is locked: %v", err)
	}
	if err := s.Delete(ctx, "a", v); err != nil {
		t.Fatalf("Delete while the entry is locked: %v", err)
	}
	wantLocked(t, s, "a", 20*time.Millisecond) // still, whatever became of the entry
	mustUnlock(t, mustLock(t, s, "b"))         // another entry is not locked
	mustUnlock(t, mustLock(t, s, "A"))
	mustUnlock(t, unlock)
}

func unlockTwice(t *testing.T, s tokencache.Store) {
	first := mustLock(t, s, "a")
	mustUnlock(t, first)
	second := mustLock(t, s, "a")
	if err := first(); err != nil {
		t.Errorf("unlock called again: %v", err)
	}
	wantLocked(t, s, "a", 50*time.Millisecond) // it is the second's
	mustUnlock(t, second)
}

// lockAtVersion checks what waiter sees while s holds the lock and changes the entry. They are
// one store, or two handles as two processes would have.
func lockAtVersion(t *testing.T, waiter, s tokencache.Store) {
	w, ok := waiter.(tokencache.Watcher)
	if !ok {
		t.Log("the store is no Watcher")
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	unlock, err := s.(tokencache.Watcher).LockAt(ctx, "a", "")
	if err != nil {
		t.Fatalf("LockAt of what nobody has locked: %v", err)
	}
	wantLocked(t, waiter, "a", 20*time.Millisecond)
	_, err = w.LockAt(ctx, "a", "no such version")
	wantErr(t, "LockAt of a version that is not there", err, tokencache.ErrConflict)

	// Each of these ends a wait for the version before.
	v, data := tokencache.Version(""), []byte("one")
	for _, change := range []struct {
		name string
		make func() (tokencache.Version, error)
	}{
		{"the first Save", func() (tokencache.Version, error) { return s.Save(ctx, "a", data, v) }},
		{"another Save", func() (tokencache.Version, error) { return s.Save(ctx, "a", []byte("two"), v) }},
		{"Delete", func() (tokencache.Version, error) { return "", s.Delete(ctx, "a", v) }},
	} {
		waiting := make(chan error, 1)
		go func(v tokencache.Version) {
			_, err := w.LockAt(ctx, "a", v)
			waiting <- err
		}(v)
		select {
		case err := <-waiting:
			t.Fatalf("LockAt before %s: %v", change.name, err)
		case <-time.After(50 * time.Millisecond):
		}
		if v, err = change.make(); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "LockAt after "+change.name, <-waiting, tokencache.ErrConflict)
	}

	short, stop := context.WithTimeout(ctx, 20*time.Millisecond)
	defer stop()
	_, err = w.LockAt(short, "a", v)
	wantErr(t, "LockAt whose context has ended", err, context.DeadlineExceeded)

	// The holder may release the lock without a change.
	held := make(chan func() error, 1)
	go func() {
		unlock, err := w.LockAt(ctx, "a", v)
		if err != nil {
			t.Errorf("LockAt while somebody else has the lock for a while: %v", err)
		}
		held <- unlock
	}()
	time.Sleep(50 * time.Millisecond)
	mustUnlock(t, unlock)
	if unlock = <-held; unlock != nil {
		wantLocked(t, s, "a", 20*time.Millisecond)
		mustUnlock(t, unlock)
	}
}
