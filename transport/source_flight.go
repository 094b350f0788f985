package transport

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// The shortest time between two reads of the cache for what another process has
// brought: while this one may not ask the provider and has no token that an API takes,
// so that its callers fail; and while a login is required.
const (
	reloadInterval     = 100 * time.Millisecond
	deadReloadInterval = 10 * time.Second
)

// startInBackground starts a flight if there is none and one may start now.
// s.mu is held.
func (s *Source) startInBackground(ctx context.Context, now time.Time) *flight {
	if s.flight != nil || s.closed.Load() || s.blocked(now, false) != nil {
		return nil
	}
	if s.dead != nil && !s.mayReload(now, deadReloadInterval) {
		return nil // It would be a look for somebody's new login; not at each request.
	}
	return s.start(ctx, "", nil)
}

// joinOrStart returns the flight that will bring a token, or an error if there
// can be none now. rejected is a token that an API has rejected, or "".
// s.mu is held.
func (s *Source) joinOrStart(ctx context.Context, now time.Time, rejected tokencache.Secret) (*flight, error) {
	if s.flight != nil {
		s.flight.wanted = true
		return s.flight, nil
	}
	if s.closed.Load() {
		return nil, &Error{Kind: ErrMisconfigured, Op: "token", Remedy: "the Source was closed; use it no longer"}
	}
	// Another process may have had more luck: look, but not at every call.
	blocked := s.blocked(now, true)
	if blocked != nil && !s.mayReload(now, reloadInterval) {
		return nil, blocked
	}
	f := s.start(ctx, rejected, blocked)
	f.wanted = true
	return f, nil
}

// mayReload reports whether to look into the cache, and takes note that somebody does: not
// again before the interval is over. s.mu is held.
func (s *Source) mayReload(now time.Time, interval time.Duration) bool {
	if within(now, time.Unix(0, s.reloadAt), interval) {
		return false
	}
	s.reloadAt = now.Add(interval).UnixNano()
	return true
}

// blocked returns why the provider must be left alone, or nil. wanted says that somebody
// goes without a token. s.mu is held.
func (s *Source) blocked(now time.Time, wanted bool) *Error {
	own := s.outage.blocks(now, wanted)
	if s.dead != nil {
		return own // What is dead asks the cache only.
	}
	if all := s.cfg.gate.blocks(now, wanted); own == nil || all != nil && all.RetryAt.After(own.RetryAt) {
		return all
	}
	return own
}

// start starts a flight. If instead is not nil, it only looks into the cache, and callers
// get that error if there is nothing. s.mu is held.
func (s *Source) start(ctx context.Context, rejected tokencache.Secret, instead *Error) *flight {
	if cur := s.cur.Load(); cur != nil && cur.rejected {
		rejected = cur.rec.AccessToken // also if an earlier flight has failed to replace it
	}
	f := &flight{begun: time.Now(), logins: s.logins, rejected: rejected, instead: instead,
		late: make(chan struct{}), done: make(chan struct{})}
	s.flight = f
	s.work.Begin()
	ctx = detached(ctx)
	go func() {
		defer s.work.End()
		s.fly(ctx, f)
	}()
	return f
}

func (s *Source) fly(ctx context.Context, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	landed := false
	defer func() {
		if !landed { // Somebody's code panics, or ends the goroutine: this one is not theirs.
			f.snap, f.err = nil, crashed(recover())
		}
		s.land(ctx, f)
	}()
	go func() {
		if sleep.Running(ctx, longestWait) {
			s.overdue(ctx, f)
		}
	}()
	waiting, stop := context.WithTimeout(ctx, lockTimeout)
	defer stop()
	f.snap, f.err = s.reload(waiting, f)
	f.adopted = f.snap != nil
	if f.snap == nil && f.err == nil {
		s.storeClaims(waiting)
	}
	if f.snap == nil && f.err == nil && f.instead == nil {
		f.snap, f.adopted, f.err = s.refresh(waiting, ctx, f)
		switch {
		case f.err != nil:
		case f.snap.rec.Claims != "":
			f.snap, f.err = nil, &Error{Kind: ErrUnavailable, Op: "refresh", Remedy: "the provider answers with the token that an API has refused; the claims that the API demands have to be asked for"}
		case f.snap.expiredBefore(f.begun):
			f.snap, f.err = nil, &Error{Kind: ErrUnavailable, Op: "refresh", Remedy: "the token that came had expired already; check the clock of this machine"}
		}
	}
	landed = true
}

// lockTimeout bounds the wait of a flight for the cache, and for another process that
// works on the login. It is less than longestWait, so that callers are told which it was.
const lockTimeout = 10 * time.Second

// overdue tells everybody that the flight takes longer than callers are made to wait.
func (s *Source) overdue(ctx context.Context, f *flight) {
	defer s.deliver(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != f {
		return
	}
	close(f.late)
	if f.attempts.Load() == 0 {
		return
	}
	e := f.overdue()
	s.cfg.gate.failed(s, e, f.trial != nil)
	s.cfg.gate.leave(f.trial)
	if s.outage == nil && !s.cur.Load().usable(wallNow()) {
		f.told = true
		s.emit(ctx, Event{Type: EventOutage, Err: e, RetryAt: e.RetryAt}, f.wanted)
	}
}

// land ends a flight.
func (s *Source) land(ctx context.Context, f *flight) {
	s.mu.Lock()
	s.flight = nil
	switch brought := f.snap != nil && f.err == nil; {
	case !brought && s.logins != f.logins:
		// A login or logout has come between, and the failure is one of the past.
		f.snap, f.err = s.cur.Load(), nil
		if !f.snap.usable(wallNow()) {
			f.err = cmp.Or(s.dead, &Error{Kind: ErrUnavailable, Op: "token", Remedy: "there is a new login; try again"})
		}
	case f.instead != nil && !brought && !errors.Is(f.err, ErrLoginRequired):
		f.err = f.instead
	default:
		s.finish(ctx, f)
	}
	unsaved := s.unsaved != nil
	s.mu.Unlock()
	if unsaved { // Whoever gets the token, and perhaps ends the process, has been warned.
		s.deliver(ctx)
	}
	close(f.done)
	s.deliver(ctx)
}

// finish draws the consequences of a flight: the state that the next caller
// meets, and the events. s.mu is held.
func (s *Source) finish(ctx context.Context, f *flight) {
	if f.err == nil {
		if s.outage != nil || f.told {
			s.emit(ctx, Event{Type: EventRecovered}, f.told && f.wanted || s.outage != nil && s.outage.quiet)
		}
		s.reset()
		return
	}

	e := asError(f.err)
	if e.Kind == ErrLoginRequired && e.RetryAt.IsZero() {
		if s.dead == nil || s.outage != nil {
			s.emit(ctx, f.end(Event{Type: EventLoginRequired, Err: e}), f.wanted)
		}
		refused, reloadAt := s.refused, s.reloadAt
		s.reset()
		s.dead, s.refused, s.reloadAt, f.err = e, refused, reloadAt, e
		return
	}
	first := s.outage == nil && !f.told
	if s.outage == nil {
		s.outage = new(outage)
	}
	left := time.Duration(0) // of a token that is good
	if snap, now := s.cur.Load(), wallNow(); snap.usable(now) {
		left = time.Duration(snap.useBefore - now.UnixNano())
	}
	e = s.outage.fail(wallNow(), e, left)
	s.emit(ctx, f.end(Event{Type: EventRefreshFailed, Err: e, RetryAt: e.RetryAt}), f.wanted)
	if first {
		s.outage.quiet = f.wanted
		s.emit(ctx, Event{Type: EventOutage, Err: e, RetryAt: e.RetryAt}, f.wanted)
	}
	if f.err = e; f.wanted { // A caller without a token may come back sooner.
		c := *e
		c.RetryAt = cmp.Or(s.blocked(wallNow(), true), e).RetryAt
		f.err = &c
	}
}

// reset forgets the troubles of the past. s.mu is held.
func (s *Source) reset() {
	s.outage, s.dead, s.refused, s.reloadAt = nil, nil, nil, 0
}

// longestLock is how long Login, Logout and Forget wait for others that work on the login.
// A refresh may wait for its provider for longer, but a user does not.
const longestLock = 2 * time.Minute

// lock takes the turn and the lock on the login, for whoever changes it. A wait that a user
// may notice is told.
func (s *Source) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, longestLock)
	defer cancel()
	return s.locked(entry.Announced(ctx, s.entry.Lock, func(err error) {
		s.waits(ctx, err, "still waiting for it, for two minutes in all", func() bool { return false })
	}))
}

// lockFor takes the same for a flight. If callers wait for that, the log need not tell it
// as loud: an error tells them if it takes long.
func (s *Source) lockFor(ctx context.Context, f *flight) (unlock func(), err error) {
	return s.locked(entry.Announced(ctx, s.entry.LockAt(f.at), func(err error) {
		s.waits(ctx, err, "still waiting for it, for ten seconds in all", func() bool { return f.wanted })
	}))
}

// waits tells for whom it waits. quiet, which is called with s.mu held, says how the log is
// told.
func (s *Source) waits(ctx context.Context, cause error, remedy string, quiet func() bool) {
	e := lockError(cause)
	e.Remedy = remedy
	s.mu.Lock()
	s.emit(ctx, Event{Type: EventWaiting, Err: e}, quiet())
	s.mu.Unlock()
	s.deliver(ctx)
}

// locked returns what an entry.Lock returned, with the errors of this package.
func (s *Source) locked(unlock func() error, err error) (func(), error) {
	if err != nil {
		return nil, lockError(err)
	}
	return func() {
		if err := unlock(); err != nil {
			s.log(context.Background(), slog.LevelWarn, "unlock failed", err)
		}
	}, nil
}
