package transport

import (
	"context"
	"log/slog"
	"sync"
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
// leaves all to them.
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
