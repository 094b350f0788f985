package storecheck

import (
	"testing"
	"time"
)

// A Watcher is another process that waits for a lock all along, and asks who has died
// while holding one. So it notices first if the lock of a process that lives is lost.
type Watcher struct {
	got   chan func() error
	named chan string
}

// Watch starts a Watcher of the lock on an entry. It has a Store of its own.
func Watch(t *testing.T, s Store, name string) *Watcher {
	w := &Watcher{got: make(chan func() error, 1), named: make(chan string, 1)}
	go func() {
		for t.Context().Err() == nil {
			if unlock, err := s.Lock(t.Context(), name); err == nil {
				w.got <- unlock
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	go func() {
		for t.Context().Err() == nil {
			for name, err := range s.Interrupted(t.Context()) {
				if err == nil {
					w.named <- name
					return
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return w
}

// NothingFor checks that for so long the lock is nobody else's, and nobody is called dead.
func (w *Watcher) NothingFor(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-w.got:
		t.Fatal("somebody else got the lock of a process that lives")
	case name := <-w.named:
		t.Fatalf("%q was called interrupted, and its process lives", name)
	case <-time.After(d):
	}
}

// Turn waits until the Watcher has the lock, and releases it.
func (w *Watcher) Turn(t *testing.T) {
	t.Helper()
	select {
	case unlock := <-w.got:
		if err := unlock(); err != nil {
			t.Error(err)
		}
	case <-time.After(Patience):
		t.Error("the lock was released, and nobody else gets it")
	}
}
