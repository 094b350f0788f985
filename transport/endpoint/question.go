package endpoint

import (
	"context"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// A question may be asked by many callers at the same time: the first one asks, in a single
// flight, and all get the answer, which stays good for a moment. The zero value is ready to
// use.
type question struct {
	mu     sync.Mutex
	asking chan struct{} // closed when the answer is there; nil: nobody is asking
	answer *transport.Error
	at     time.Time
}

const answerIsGood = 500 * time.Millisecond

func (q *question) ask(ctx context.Context, now func(context.Context) *transport.Error) *transport.Error {
	for {
		q.mu.Lock()
		asking := q.asking
		if asking == nil {
			if !q.at.IsZero() && time.Since(q.at) < answerIsGood {
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
	asking := make(chan struct{})
	q.asking = asking
	q.mu.Unlock()
	var answer *transport.Error
	defer func() { // also if foreign code panics
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.asking = nil; ctx.Err() == nil { // Otherwise it says nothing about the provider.
			q.answer, q.at = answer, time.Now()
		}
		close(asking)
	}()
	answer = now(ctx)
	return answer
}
