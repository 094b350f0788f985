package endpoint

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// A question may be asked by many callers at the same time: the first one asks, in a single
// flight, and all get the answer, which stays good for a moment. No answer in time is one too, for
// those who would not have waited longer: if each of them asked again with the patience that it has
// left, a provider that is frozen would be asked all the while, and what it is asked stands in its
// queue before the refreshes that come after it. The zero value is ready to use.
type question struct {
	mu     sync.Mutex
	asking chan struct{} // closed when the answer is there; nil: nobody is asking
	answer *transport.Error
	at     time.Time
	after  time.Duration // for which nobody answered; 0: there was an answer
}

const answerIsGood = 500 * time.Millisecond

func (q *question) ask(ctx context.Context, now func(context.Context) *transport.Error) *transport.Error {
	for {
		q.mu.Lock()
		asking := q.asking
		if asking == nil {
			if q.isGood(ctx) {
				defer q.mu.Unlock()
				return q.answer
			}
			break
		}
		q.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: context.Cause(ctx)}
		}
	}
	asking, asked := make(chan struct{}), time.Now()
	q.asking = asking
	q.mu.Unlock()
	var answer *transport.Error
	answered := false // Foreign code may panic.
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		// A caller that has gone says nothing about the provider.
		if q.asking = nil; answered && !errors.Is(ctx.Err(), context.Canceled) {
			q.answer, q.at, q.after = answer, time.Now(), 0
			if ctx.Err() != nil {
				q.after = time.Since(asked)
			}
		}
		close(asking)
	}()
	answer = now(ctx)
	answered = true
	return answer
}

// isGood reports whether the last answer is good for a caller with ctx. q.mu is held.
func (q *question) isGood(ctx context.Context) bool {
	if q.at.IsZero() || time.Since(q.at) >= answerIsGood {
		return false
	}
	until, limited := ctx.Deadline()
	return q.after == 0 || limited && time.Until(until) <= q.after
}
