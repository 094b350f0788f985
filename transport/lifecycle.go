package transport

import (
	"context"
	"time"
)

// How long KeepFresh sleeps at most: a laptop that wakes up is noticed within a
// minute, and the login of another process, while one is required, within 15 s.
const (
	keepFreshNap  = time.Minute
	deadNap       = 15 * time.Second
	keepFreshStep = 100 * time.Millisecond
)

// KeepFresh refreshes the token whenever that is due, until ctx is done, and
// returns ctx's error. It is for services, which should not wait for a refresh
// after a quiet hour; while it runs, no request waits for a background refresh to
// settle. What goes wrong is told to OnEvent and the Logger.
func (s *Source) KeepFresh(ctx context.Context) error {
	s.keepers.Add(1)
	defer s.keepers.Add(-1)
	for {
		s.token(ctx)
		timer := time.NewTimer(s.nap())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// nap returns how long nothing needs to be done.
func (s *Source) nap() time.Duration {
	now := wallNow()
	snap := s.cur.Load()
	nap := keepFreshNap
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.dead != nil:
		nap = deadNap
	case s.waiting(now):
		nap = s.outage.RetryAt.Sub(now)
	case s.flight != nil:
		nap = time.Second
	case snap.fresh(now):
		nap = time.Duration(min(snap.refreshAt-now.UnixNano(), int64(keepFreshNap)))
	}
	return min(max(nap, keepFreshStep), keepFreshNap)
}

// Flush waits until no refresh is in flight and its result is saved. It returns
// nil if everything is stored, and otherwise why not; the Source then goes on
// trying. A program that is about to exit calls it, or Close.
func (s *Source) Flush(ctx context.Context) error {
	s.mu.Lock()
	f := s.flight
	s.mu.Unlock()
	if f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
			return &Error{Kind: ErrStorage, Op: "flush", Err: context.Cause(ctx), Remedy: "a refresh is still in flight"}
		}
	}
	turn := s.turns()
	select {
	case turn <- struct{}{}: // also if ctx is done already
	default:
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return &Error{Kind: ErrStorage, Op: "flush", Err: context.Cause(ctx), Remedy: "the login is still being worked on"}
		}
	}
	defer s.tell()
	defer func() { <-turn }()
	return s.savePending(ctx)
}

// Close is Flush, after which the Source starts nothing any more: a token that is
// good is still handed out, and an expired one is an error. If it returns an error,
// the newest refresh token may not have been saved, and the login may be lost.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		if s.stop != nil {
			close(s.stop)
		}
	}
	s.mu.Unlock()
	if err := s.Flush(ctx); err != nil {
		s.abandon()
		return err
	}
	s.work.Wait()
	return nil
}

// abandon releases the lock of a rotation that could not be saved, unless
// somebody is still at work on it.
func (s *Source) abandon() {
	turn := s.turns()
	select {
	case turn <- struct{}{}:
		if s.pending != nil && s.pending.unlock != nil {
			s.pending.unlock()
			s.pending.unlock = nil
		}
		<-turn
	default:
	}
}
