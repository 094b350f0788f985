package endpoint

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// A question may be asked by many callers at the same time: it is sent once, and all wait for
// the one answer, which stays good for a moment. It lasts as long as anybody waits, so that many
// impatient callers are no more work for a provider that is slow or frozen than one is: what it
// is asked meanwhile stands in its queue before the refreshes that come after it. The zero value
// is ready to use.
type question struct {
	mu  sync.Mutex
	now *asked // nil: nobody has asked yet, or everybody has gone
}

// asked is a question that was sent.
type asked struct {
	waiting int // callers
	cancel  context.CancelFunc

	done     chan struct{}
	at       time.Time // of the answer; this and what follows is read when done is closed
	answer   *transport.Error
	finished bool // false: foreign code panicked, or ended the goroutine
	panicked any
}

const answerIsGood = 500 * time.Millisecond

// ask returns the answer to what send asks, or an error when ctx ends.
func (q *question) ask(ctx context.Context, send func(context.Context) *transport.Error) *transport.Error {
	a := q.join(ctx, send)
	defer q.quit(a)
	select {
	case <-a.done:
	case <-ctx.Done():
		return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: context.Cause(ctx)}
	}
	switch {
	case a.finished:
		return a.answer
	case a.panicked != nil:
		panic(a.panicked)
	}
	runtime.Goexit()
	return nil
}

// join joins those who wait, or sends the question.
func (q *question) join(ctx context.Context, send func(context.Context) *transport.Error) *asked {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a := q.now; a != nil && a.isGood() {
		a.waiting++
		return a
	}
	// A path that is dead may be known to be so only for a new connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pathTimeout)
	a := &asked{waiting: 1, cancel: cancel, done: make(chan struct{})}
	q.now = a
	go func() {
		defer close(a.done)
		defer func() { a.panicked, a.at = recover(), time.Now() }()
		a.answer = send(ctx)
		a.finished = true
	}()
	return a
}

// quit forgets a question that nobody waits for any more, unless it was answered.
func (q *question) quit(a *asked) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a.waiting--; a.waiting > 0 {
		return
	}
	a.cancel()
	if q.now == a && !a.isOver() {
		q.now = nil
	}
}

// isGood reports whether a caller may wait for the answer, or take it.
func (a *asked) isGood() bool {
	return !a.isOver() || a.finished && time.Since(a.at) < answerIsGood
}

func (a *asked) isOver() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}
