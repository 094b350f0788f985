package transport

import (
	"context"
	"time"

	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// The longest pauses of KeepFresh: it notices within a minute that a laptop has woken up, and,
// while a login is required, within 15 s that another process has logged in.
const (
	keepFreshPause = time.Minute
	deadPause      = 15 * time.Second
	keepFreshStep  = 100 * time.Millisecond
)

// KeepFresh refreshes the token whenever that is due, until ctx is done, and returns its cause
// (context.Cause). It is for services, whose requests should not wait for a refresh after a
// quiet hour; while it runs, no request waits for a background refresh to settle. OnEvent and
// the Logger are notified of what goes wrong.
func (s *Source) KeepFresh(ctx context.Context) error {
	s.keepFreshCalls.Add(1)
	defer s.keepFreshCalls.Add(-1)
	for {
		if f := s.refreshIfDue(ctx); f != nil {
			f.see(ctx)
		}
		if !sleep.For(ctx, s.pause()) {
			return context.Cause(ctx)
		}
	}
}

// refreshIfDue starts a refresh in the background, if it is time for one.
func (s *Source) refreshIfDue(ctx context.Context) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := wallNow(); ctx.Err() == nil && !s.cur.Load().fresh(now) {
		return s.startInBackground(ctx, now)
	}
	return nil
}

// pause returns for how long there is nothing to do.
func (s *Source) pause() time.Duration {
	now := wallNow()
	snap := s.cur.Load()
	pause := keepFreshPause
	s.mu.Lock()
	defer s.mu.Unlock()
	blocked := s.blocked(now, false)
	switch {
	case s.dead != nil:
		pause = deadPause
	case blocked != nil:
		pause = blocked.RetryAt.Sub(now)
	case s.flight != nil:
		pause = time.Second
	case snap.fresh(now):
		pause = time.Duration(min(snap.refreshAt-now.UnixNano(), int64(keepFreshPause)))
	}
	return min(max(pause, keepFreshStep), keepFreshPause)
}

// Flush waits until no refresh is in flight and its result is saved. It returns nil if
// everything is stored, and otherwise the reason why not; the Source then goes on trying. If
// the result cannot be saved now, Flush waits for that until the deadline of ctx, and not at
// all if ctx has none. A program that is about to exit should call Flush or Close.
func (s *Source) Flush(ctx context.Context) error {
	for {
		saved, err := s.flush(ctx)
		if _, patient := ctx.Deadline(); err == nil || saved == nil || !patient {
			return err
		}
		select {
		case <-saved:
		case <-ctx.Done():
			return err
		}
	}
}

// flush makes one attempt. If something could not be saved, it returns a channel that is closed
// when the saver has saved it.
func (s *Source) flush(ctx context.Context) (saved <-chan struct{}, err error) {
	s.mu.Lock()
	f := s.flight
	s.mu.Unlock()
	if f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, &Error{Kind: ErrStorage, Op: "flush", Err: context.Cause(ctx), Remedy: "a refresh is still in flight"}
		}
	}
	end, err := s.entry.TakeTurn(ctx)
	if err != nil {
		return nil, &Error{Kind: ErrStorage, Op: "flush", Err: context.Cause(ctx), Remedy: "the login is still being worked on"}
	}
	defer s.deliverWithin(ctx)
	defer end()
	if err = s.savePending(ctx); err != nil {
		_, saved = s.entry.Pending()
	}
	return saved, err
}

// Close is like Flush, but the Source starts nothing afterwards: it still hands out a good
// token, but returns an error once that has expired. If it returns an error, the newest refresh
// token may not have been saved, and the login is lost if the process ends before it is: while
// the process lives, the Source goes on trying.
func (s *Source) Close(ctx context.Context) error {
	s.closed.Store(true)
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if err := s.work.Wait(ctx); err != nil {
		return &Error{Kind: ErrStorage, Op: "close", Err: err, Remedy: "everything is saved, but OnEvent or the Logger has not returned"}
	}
	return nil
}
