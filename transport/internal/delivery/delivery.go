// Package delivery notifies listeners of events in the order in which they happened, while no
// lock is held, and on the goroutine of any caller. So no other caller has to wait for a
// listener that hangs, and a listener may use the object that it is notified about.
package delivery

import (
	"context"
	"sync"
)

// A Queue holds events that are not delivered yet. It has a lock of its own, which is held only
// for moments, and may be taken while any other lock is held. The zero value is empty.
type Queue[E any] struct {
	mu         sync.Mutex
	delivering bool // a call of Deliver is under way
	queue      *[]E // nil: empty, as most queues are
}

// Add adds e at the end.
func (q *Queue[E]) Add(e E) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.queue == nil {
		q.queue = new([]E)
	}
	*q.queue = append(*q.queue, e)
}

func (q *Queue[E]) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.queue == nil
}

// Deliver calls to for each event, one after the other. If another call is under way, it leaves
// everything to that.
func (q *Queue[E]) Deliver(to func(*E)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.delivering {
		return
	}
	q.delivering = true
	defer func() { q.delivering = false }()
	for q.queue != nil {
		e := (*q.queue)[0]
		if *q.queue = (*q.queue)[1:]; len(*q.queue) == 0 {
			q.queue = nil
		}
		func() {
			q.mu.Unlock()
			defer q.mu.Lock() // also if to panics
			to(&e)
		}()
	}
}

// DeliverWithin is Deliver for a caller that waits no longer than until ctx is done, and until
// then gets the panic of a listener. running counts the goroutine that it needs.
func (q *Queue[E]) DeliverWithin(ctx context.Context, to func(*E), running *Workers) {
	if q.empty() {
		return
	}
	running.Begin()
	done := make(chan any, 1) // gets the value of a panic
	go func() {
		defer running.End()
		defer func() { done <- recover() }()
		q.Deliver(to)
	}()
	select {
	case p := <-done:
		if p != nil {
			panic(p)
		}
	case <-ctx.Done():
	}
}

// DeliverSafely is Deliver for a goroutine that no caller can guard: the panic of a listener
// ends with the event that caused it, and panicked is called with its value, once.
func (q *Queue[E]) DeliverSafely(to func(*E), panicked func(value any)) {
	for done, reported := false, false; !done; {
		func() {
			defer func() {
				if done {
					return
				}
				if r := recover(); r == nil {
					done = true // The goroutine ends (runtime.Goexit); others will deliver the rest.
				} else if !reported {
					reported = true
					panicked(r)
				}
			}()
			q.Deliver(to)
			done = true
		}()
	}
}

// Workers counts goroutines that have not ended. The zero value counts none.
type Workers struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // made by Wait, closed when there are none left
}

// Begin adds one.
func (w *Workers) Begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
}

// End removes one.
func (w *Workers) End() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n--; w.n == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

// Wait waits until there are none. If ctx is done first, it returns its cause.
func (w *Workers) Wait(ctx context.Context) error {
	w.mu.Lock()
	if w.n == 0 {
		w.mu.Unlock()
		return nil
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
