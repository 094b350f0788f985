package transport

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/httphooks"
)

// An eventQueue has what happened to a login and is to be told, in the order in which it
// happened. It has a lock of its own, which is held for a moment at a time and within any
// other. The zero value is empty.
type eventQueue struct {
	mu         sync.Mutex
	delivering bool // somebody is
	queue      []queuedEvent
}

// A queuedEvent is an event with the context of the call that caused it. Or it is a trouble
// that changes nothing in the life of the login, and only for the log.
type queuedEvent struct {
	ctx context.Context
	Event
	level slog.Level

	trouble string
	cause   error
}

func (q *eventQueue) add(e queuedEvent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, e)
}

func (q *eventQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) == 0
}

// deliver passes on what was added, one after the other. If somebody is at it already, it
// leaves all to them. No lock is held meanwhile, so that a listener may use the Source.
func (q *eventQueue) deliver(to func(*queuedEvent)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.delivering {
		return
	}
	q.delivering = true
	defer func() { q.delivering = false }()
	for len(q.queue) > 0 {
		e := q.queue[0]
		if q.queue = q.queue[1:]; len(q.queue) == 0 {
			q.queue = nil
		}
		func() {
			q.mu.Unlock()
			defer q.mu.Lock() // also if to panics
			to(&e)
		}()
	}
}

// deliverWithin is deliver for somebody who waits no longer than until ctx is done: a log
// or OnEvent may hang.
func (q *eventQueue) deliverWithin(ctx context.Context, to func(*queuedEvent), running *workers) {
	if q.empty() {
		return
	}
	running.begin()
	done := make(chan any, 1) // gets the value of a panic, which is the caller's as long as it waits
	go func() {
		defer running.end()
		defer func() { done <- recover() }()
		q.deliver(to)
	}()
	select {
	case p := <-done:
		if p != nil {
			panic(p)
		}
	case <-ctx.Done():
	}
}

// deliverSafely is deliver on a goroutine that nobody else can guard: the panic of a log or
// of OnEvent ends with the event that it met.
func (q *eventQueue) deliverSafely(ctx context.Context, to func(*queuedEvent)) {
	var key tokencache.Key
	for done, logged := false, false; !done; {
		func() {
			defer func() {
				if done {
					return
				}
				if r := recover(); r == nil {
					done = true // The goroutine ends (runtime.Goexit); others will deliver the rest.
				} else if !logged {
					logged = true
					q.add(queuedEvent{ctx: detached(ctx), Event: Event{Key: key}, level: slog.LevelError,
						trouble: "OnEvent or the Logger panicked", cause: fmt.Errorf("with a value of type %T", r)})
				}
			}()
			q.deliver(func(e *queuedEvent) {
				key = e.Key
				to(e)
			})
			done = true
		}()
	}
}

// detached returns ctx for what outlives its call.
func detached(ctx context.Context) context.Context {
	return httphooks.Without(context.WithoutCancel(ctx))
}

// report tells the log and OnEvent.
func (cfg *SourceConfig) report(e *queuedEvent) {
	if e.trouble != "" {
		cfg.Logger.LogAttrs(e.ctx, e.level, "stayauth: "+e.trouble, append(keyAttrs(e.Key), slog.String("err", e.cause.Error()))...)
		return
	}
	if cfg.Logger.Enabled(e.ctx, e.level) {
		cfg.Logger.LogAttrs(e.ctx, e.level, "stayauth: "+string(e.Type), e.attrs()...)
	}
	if cfg.OnEvent != nil {
		cfg.OnEvent(e.ctx, e.Event)
	}
}

// workers counts the goroutines of a Source that have not ended, their events included.
type workers struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // made by none, closed when there are no more
}

func (w *workers) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
}

func (w *workers) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n--; w.n == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

// none waits until there are none.
func (w *workers) none(ctx context.Context) error {
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
