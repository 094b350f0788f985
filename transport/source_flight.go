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

// The shortest times between two reloads of the cache for what another process may have
// brought: while this one must not ask the provider and has no token that an API accepts, so
// that its callers fail; and while a login is required.
const (
	reloadInterval     = 100 * time.Millisecond
	deadReloadInterval = 10 * time.Second
)

// startInBackground starts a flight if there is none and one may start now.
// s.mu is held.
func (s *Source) startInBackground(ctx context.Context, now time.Time) *flight {
	return s.startUnlessBlocked(ctx, now, new(flight))
}

// startUnlessBlocked starts f on the same conditions. s.mu is held.
func (s *Source) startUnlessBlocked(ctx context.Context, now time.Time, f *flight) *flight {
	if s.flight != nil || s.closed.Load() || s.blocked(now, false) != nil {
		return nil
	}
	if s.dead != nil && !s.mayReload(now, deadReloadInterval) {
		return nil // It would only reload the cache for a new login; not at each request.
	}
	return s.start(ctx, f)
}

// joinOrStart returns the single flight that will bring a token, or an error if there can be
// none now. rejected is a token that an API has rejected, or "". s.mu is held.
func (s *Source) joinOrStart(ctx context.Context, now time.Time, rejected tokencache.Secret) (*flight, error) {
	if s.flight != nil {
		s.flight.wanted = true
		return s.flight, nil
	}
	if s.closed.Load() {
		return nil, &Error{Kind: ErrMisconfigured, Op: "token", Remedy: "the Source was closed; use it no longer"}
	}
	// Another process may have had more luck: reload, but not at every call.
	blocked := s.blocked(now, true)
	if blocked != nil && !s.mayReload(now, reloadInterval) {
		return nil, blocked
	}
	f := s.start(ctx, &flight{rejected: rejected, instead: blocked})
	f.wanted = true
	return f, nil
}

// mayReload reports whether the caller may reload the cache, and if so keeps others from it
// until the interval is over. s.mu is held.
func (s *Source) mayReload(now time.Time, interval time.Duration) bool {
	if within(now, time.Unix(0, s.reloadAt), interval) {
		return false
	}
	s.reloadAt = now.Add(interval).UnixNano()
	return true
}

// blocked returns why the provider must not be asked now, or nil. wanted says that a caller has
// no token. s.mu is held.
func (s *Source) blocked(now time.Time, wanted bool) *Error {
	own := s.outage.blocks(now, wanted)
	if s.dead != nil {
		return own // A dead login asks only the cache.
	}
	if all := s.cfg.gate.blocks(now, wanted); own == nil || all != nil && all.RetryAt.After(own.RetryAt) {
		return all
	}
	return own
}

// start starts f. s.mu is held.
func (s *Source) start(ctx context.Context, f *flight) *flight {
	cur := s.cur.Load()
	if cur != nil && cur.rejected {
		f.rejected = cur.rec.AccessToken // also if an earlier flight failed to replace it
	}
	f.calm = s.dead == nil && s.outage == nil && s.unsaved == nil && !s.claimed && !s.cfg.gate.shut()
	if cur != nil {
		if f.last = cur.saved; !s.shared && s.cfg.Cache.MayBeginUnread(cur.rec) {
			f.foresee(cur)
		}
	}
	f.begun, f.logins = time.Now(), s.logins
	f.late, f.done = make(chan struct{}), make(chan struct{})
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
		if !landed { // Foreign code panicked, or ended the goroutine.
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
	if !f.unread {
		f.snap, f.err = s.reload(waiting, f)
	}
	f.adopted = f.snap != nil
	if f.snap == nil && f.err == nil {
		s.storeClaims(waiting)
	}
	if f.snap == nil && f.err == nil && f.instead == nil {
		f.snap, f.adopted, f.err = s.refresh(waiting, ctx, f)
		switch {
		case f.err != nil:
		case f.snap.rec.Claims != "":
			f.snap, f.err = nil, &Error{Kind: ErrUnavailable, Op: "refresh", Remedy: "the provider answers with the token that an API has rejected; the claims that the API demands have to be asked for"}
		case f.snap.expiredBefore(f.begun):
			f.snap, f.err = nil, &Error{Kind: ErrUnavailable, Op: "refresh", Remedy: "the token that came had expired already; check the clock of this machine"}
		}
	}
	landed = true
}

// lockTimeout bounds how long a flight waits for the cache, and for another process that works
// on the login. It is less than longestWait, so that the error says which of them it was.
const lockTimeout = 10 * time.Second

// overdue ends the wait of all callers of a flight that takes too long, and reports it.
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
	s.cfg.gate.failed(s, e, true, f.trial != nil)
	s.cfg.gate.leave(f.trial)
	if s.outage == nil && !s.cur.Load().usable(wallNow()) && !f.unnoticed() {
		f.reported = true
		s.emit(ctx, Event{Type: EventOutage, Err: e, RetryAt: e.RetryAt}, f.wanted)
	}
}

// land ends a flight.
func (s *Source) land(ctx context.Context, f *flight) {
	s.mu.Lock()
	s.flight = nil
	s.shared = f.wrong || s.shared && f.at != f.last
	switch brought := f.snap != nil && f.err == nil; {
	case !brought && s.logins != f.logins:
		// A login or logout came between, so the failure no longer matters.
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
	if unsaved { // A caller that gets the token, and may end the process, has been warned.
		s.deliver(ctx)
	}
	close(f.done)
	s.deliver(ctx)
}

// finish draws the consequences of a flight: the state for the next caller, and the events.
// s.mu is held.
func (s *Source) finish(ctx context.Context, f *flight) {
	if f.err == nil {
		if s.outage != nil && !s.outage.untold || f.reported {
			s.emit(ctx, Event{Type: EventRecovered}, f.reported && f.wanted || s.outage != nil && s.outage.quiet)
		}
		s.reset()
		return
	}

	e := asError(f.err)
	if e.Kind == ErrLoginRequired && e.RetryAt.IsZero() {
		// A login that nobody uses has ended elsewhere? Whoever has ended it has said so.
		if (s.dead == nil || s.outage != nil) && (f.attempts.Load() > 0 || !f.unnoticed()) {
			s.emit(ctx, f.end(Event{Type: EventLoginRequired, Err: e}), f.wanted)
		}
		refused, reloadAt := s.refused, s.reloadAt
		s.reset()
		s.dead, s.refused, s.reloadAt, f.err = e, refused, reloadAt, e
		return
	}
	first := s.outage == nil && !f.reported || s.outage != nil && s.outage.untold
	if s.outage == nil {
		s.outage = new(outage)
	}
	left := time.Duration(0) // the remaining life of a good token
	if snap, now := s.cur.Load(), wallNow(); snap.usable(now) {
		left = time.Duration(snap.useBefore - now.UnixNano())
	}
	e = s.outage.fail(wallNow(), e, f.attempts.Load() > 0, left)
	s.emit(ctx, f.end(Event{Type: EventRefreshFailed, Err: e, RetryAt: e.RetryAt}), f.wanted)
	if s.outage.untold = first && f.unnoticed(); first && !s.outage.untold {
		s.outage.quiet = f.wanted
		s.emit(ctx, Event{Type: EventOutage, Err: e, RetryAt: e.RetryAt}, f.wanted)
	}
	if f.err = e; f.wanted { // A caller without a token may try again sooner.
		c := *e
		c.RetryAt = cmp.Or(s.blocked(wallNow(), true), e).RetryAt
		f.err = &c
	}
}

// notSpent says why the refresh token of rec is not spent: it is dead, or a copy. The latter
// concerns all that is in the store, so the log says it once.
func (s *Source) notSpent(ctx context.Context, rec *tokencache.Record) *Error {
	if rec.Tombstone != nil {
		return deadError(rec)
	}
	e := copyError(rec)
	if !s.cfg.copied.Swap(true) {
		s.log(ctx, slog.LevelWarn, "the store is a copy of another one", e)
	}
	return e
}

// reset forgets earlier failures. s.mu is held.
func (s *Source) reset() {
	s.outage, s.dead, s.refused, s.reloadAt = nil, nil, nil, 0
}

// lockFor takes the turn and the lock on the login for a flight. If callers wait for that, the log
// need not warn: they get an error if it takes long. A flight that has not read the cache does not
// wait long for the lock: there may be a token already, or the store may be down.
func (s *Source) lockFor(ctx context.Context, f *flight) (start *entry.Start, unlock func(), err error) {
	start = &entry.Start{At: f.at}
	if f.calm && f.trial == nil && s.cfg.checked.Load() && isPlain(f.rec, s.known().Rec) && s.cfg.check(f.rec) == nil {
		start.Rec, start.Journal = f.rec, attempting(f.rec)
	}
	if f.unread {
		brief, cancel := context.WithTimeout(ctx, entry.AnnounceAfter)
		defer cancel()
		unlock, err = s.locked(s.entry.LockBy(start)(brief))
		return start, unlock, err
	}
	unlock, err = s.locked(entry.Announced(ctx, s.entry.LockBy(start), func(err error) {
		s.waits(ctx, err, "still waiting for it, for ten seconds in all", func() bool { return f.wanted })
	}))
	return start, unlock, err
}

// waits reports that it waits, and for whom. quiet, which is called with s.mu held, says that
// the log need not warn.
func (s *Source) waits(ctx context.Context, cause error, remedy string, quiet func() bool) {
	e := lockError(cause)
	e.Remedy = remedy
	s.mu.Lock()
	s.emit(ctx, Event{Type: EventWaiting, Err: e}, quiet())
	s.mu.Unlock()
	s.deliver(ctx)
}

// locked returns the results of an entry.Lock with the errors of this package.
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
