package transport

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// refresh is the critical section. A refresh token may be spent once, so the order of its steps
// is what keeps a login alive: lock, read again, make sure that the answer can be stored, write
// the journal, spend, persist, and only then publish.
//
// waiting bounds the wait for the lock. The rest has a time limit of its own: a request must
// not be cut short because others were slow.
func (s *Source) refresh(waiting, ctx context.Context, f *flight) (snap *snapshot, adopted bool, err error) {
	// 0: the provider may be down, and another login may be finding out whether it is back.
	if err := s.enter(waiting, f); err != nil {
		return nil, false, err
	}
	trial := f.trial
	defer s.cfg.gate.leave(trial)
	// A login that has to wait for the lock lets another one ask.
	late := time.AfterFunc(trialTime, func() { s.cfg.gate.leave(trial) })
	defer late.Stop()
	// 1: one process at a time, and one goroutine in it. A flight that waits sees the token
	// that another process has stored even before that releases the lock.
	start, unlock, err := s.lockFor(waiting, f)
	for errors.Is(err, tokencache.ErrConflict) || err != nil && f.unread {
		f.wrong, f.unread = f.wrong || f.unread, false
		if snap, err = s.reload(waiting, f); snap != nil || err != nil {
			return snap, snap != nil, err
		}
		start, unlock, err = s.lockFor(waiting, f)
	}
	if err != nil {
		reloading, cancel := context.WithTimeout(ctx, lockTimeout)
		defer cancel()
		if snap, reloadErr := s.reload(reloading, f); reloadErr == nil && snap != nil {
			return snap, true, nil
		}
		return nil, false, err // Never refresh without the lock.
	}
	defer unlock()
	s.mu.Lock()
	f.logins = s.logins // This cannot change while it is our turn.
	s.mu.Unlock()

	var awaited time.Time // when the record that was waited for was put back, see AwaitNewer
	for try, changes := 0, 0; try <= promptRetries && changes < maxChanges; try++ {
		// In state unsaved the last rotation had better be saved before another refresh
		// token is spent: otherwise a crash costs two.
		s.savePending(ctx)
		// 2: somebody may have done the work while we waited.
		held, begun := s.cur.Load(), start.Begun()
		cur, version, err := s.load(ctx, start)
		if err != nil {
			return nil, false, err
		}
		if snap := s.adopt(ctx, f, s.cur.Load(), cur); snap != nil {
			return snap, true, nil
		}
		// 3: is there something to spend?
		if err := s.spendable(ctx, cur, version); err != nil {
			if cur == nil && held != nil && held.rec.LoginID != "" && errors.Is(err, ErrLoginRequired) {
				err = vanished()
			}
			return nil, false, err
		}
		if at, err := s.entry.AwaitNewer(ctx, cur, awaited); err != nil {
			return nil, false, lockError(err)
		} else if !at.Equal(awaited) {
			awaited, try, changes = at, try-1, changes+1
			continue
		}
		interrupted := cur != nil && cur.Attempt != nil
		late.Stop()
		if err := s.ask(ctx, f, cur); err != nil {
			return nil, false, err
		}
		if interrupted {
			awaitLostRequest(ctx, cur.Attempt.At)
		}
		// 4, 5: find out whether the answer can be stored while a failure is harmless: what keeps
		// the journal from being written would keep the answer from being saved.
		if cur != nil && cur.RefreshToken != "" && !begun && !s.isUnsaved() {
			version, err = s.prepare(ctx, cur, version)
			if errors.Is(err, tokencache.ErrConflict) {
				try, changes = try-1, changes+1
				continue // A login, a logout or a loss came between: read again.
			}
			if err != nil {
				return nil, false, err
			}
		}
		// 6: from here until 7 is done, a crash may lose the login.
		sent := wallNow()
		f.attempts.Add(1)
		answer, err := s.cfg.Refresher.Refresh(ctx, s.orNothing(cur))
		s.cfg.gate.answered(s, f.trial, err)
		if answer == nil {
			cause := asError(err)
			again, err := s.noAnswer(ctx, cur, version, interrupted || cause.Kind == ErrAmbiguous, cause)
			if again || try < promptRetries && s.retryNow(ctx, cur, try, sent, cause) {
				continue
			}
			return nil, false, err
		}
		next := successor(cur, answer, f.rejected)
		next.EndingAt = announced(cur, answer, s.cfg.lifetime)
		s.entry.Mark(next)
		// 7: what is not saved is lost at the next crash, so ctx does not bound this.
		out := s.entry.Replace(context.WithoutCancel(ctx), next, version, start)
		if s.apply(ctx, out); out.Rec == nil { // The user has logged out meanwhile.
			return nil, false, endedElsewhere()
		}
		// 8: publish. 9: unlock.
		snap, adopted = s.snapshot(out.Rec), out.Rec != next // Another process was faster, although we hold the lock.
		snap.saved = start.Saved(out.Rec)
		s.mu.Lock()
		s.cur.Store(snap)
		if err == nil {
			s.emit(ctx, f.brought(adopted), false)
		}
		if !adopted && cur != nil && !next.EndingAt.Equal(cur.EndingAt) {
			s.emit(ctx, Event{Type: EventEnding, Ends: next.EndingAt}, false)
		}
		s.mu.Unlock()
		return snap, adopted, err
	}
	return nil, false, &Error{Kind: ErrStorage, Op: "refresh", Err: tokencache.ErrConflict, Remedy: "other processes change this entry without taking its lock"}
}

// enter passes the provider's gate. Why it is shut is known already, so a flight that fails
// here changes nothing.
func (s *Source) enter(ctx context.Context, f *flight) error {
	s.mu.Lock()
	wanted, dead := f.wanted, s.dead != nil
	s.mu.Unlock()
	if dead {
		return nil // It asks only the cache.
	}
	trial, err := s.cfg.gate.enter(ctx, wanted)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.trial = trial; err != nil {
		f.instead = asError(err)
	}
	return err
}

// ask asks the provider a harmless question before the refresh token is presented in doubt. The
// error says that the token must not be presented now.
func (s *Source) ask(ctx context.Context, f *flight, cur *tokencache.Record) error {
	now := wallNow()
	d := doubt{interrupted: cur != nil && cur.Attempt != nil}
	s.mu.Lock()
	if f.trial != nil {
		d.since = now
	}
	if o := s.outage; o != nil && (o.err.Kind == ErrUnavailable || o.err.Kind == ErrAmbiguous) {
		d.since = o.since
	}
	if d.interrupted {
		d.since = cur.Attempt.At
	}
	d.due = s.outage.isDue(now) && s.cfg.gate.due(now)
	s.mu.Unlock()
	e := s.cfg.ask(ctx, d)
	if e == nil {
		return nil
	}
	s.cfg.gate.failed(s, e, false, f.trial != nil)
	return e
}

// spendable returns the reason why cur cannot be refreshed.
func (s *Source) spendable(ctx context.Context, cur *tokencache.Record, version tokencache.Version) error {
	ctx, cancel := context.WithTimeout(ctx, entry.Timeout)
	defer cancel()
	if cur != nil && (cur.Tombstone != nil || heldBack(cur)) {
		return s.notSpent(ctx, cur)
	}
	s.mu.Lock()
	dead, refused := s.dead, s.refused
	s.mu.Unlock()
	if dead != nil && cur != nil && refused != nil && refused.RefreshToken == cur.RefreshToken {
		// The tombstone is not stored yet, and until then others present the token.
		if _, err := s.entry.Save(ctx, refused, version); err != nil {
			s.log(ctx, slog.LevelDebug, "the refusal of the refresh token could not be stored", err)
		}
		return dead
	}
	return loginFor(cur, s.cfg.check(s.orNothing(cur)))
}

// prepare makes sure that an answer can be stored, and writes the journal: a refresh is in
// flight.
func (s *Source) prepare(ctx context.Context, cur *tokencache.Record, version tokencache.Version) (tokencache.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, entry.Timeout)
	defer cancel()
	if err := s.entry.Preflight(ctx, cur); err != nil {
		return "", storageError("preflight", err)
	}
	version, err := s.entry.Save(ctx, attempting(cur), version)
	if err != nil {
		return "", storageError("journal", err)
	}
	return version, nil
}

// retryNow reports whether to present the refresh token once more after a failed attempt, and
// waits until it is time to do so.
func (s *Source) retryNow(ctx context.Context, cur *tokencache.Record, try int, sent time.Time, cause *Error) bool {
	s.mu.Lock()
	lost := s.outage != nil && s.outage.lost
	s.mu.Unlock()
	switch {
	case cause.Kind != ErrAmbiguous, cause.RetryAfter > 0:
		return false
	case lost, // This was done before, and the outage has outlasted any grace.
		cause.whole(): // The next answer will be no better.
		return false
	}
	if cur != nil && cur.RefreshToken != "" {
		awaitLostRequest(ctx, sent)
	}
	return sleep.For(ctx, time.Duration(1+rand.Int64N(int64(500*time.Millisecond)))<<try) && s.cfg.probe(ctx, askTime) == nil
}

// noAnswer handles an attempt that brought no tokens. unknown says that the refresh token may
// have been spent by this attempt or an earlier one. It reports whether to start over, because
// the cache holds something newer.
func (s *Source) noAnswer(ctx context.Context, cur *tokencache.Record, version tokencache.Version, unknown bool, cause *Error) (again bool, err error) {
	if cur == nil || cur.RefreshToken == "" {
		if cause.Kind == ErrLoginRequired {
			// The login is kept by another library, so no tombstone can say that it
			// has ended: ask again, but not soon.
			c := *cause
			c.RetryAt = wallNow().Add(misconfiguredPause)
			cause = &c
		}
		return false, cause
	}
	if s.isUnsaved() && cause.Kind != ErrLoginRequired {
		if unknown { // Memory is the only journal.
			s.entry.Amend(attempting(cur))
		}
		return false, cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), entry.Timeout)
	defer cancel()
	next := cur.Clone()
	next.Attempt = nil
	switch cause.Kind {
	case ErrLoginRequired:
		// Perhaps something without our lock was faster: a copy of the cache on another
		// machine, or a program without locks. Then its login is the valid one.
		stored, v, err := s.load(ctx, new(entry.Start))
		if err == nil && (stored == nil || stored.RefreshToken != cur.RefreshToken) {
			if stored != nil && stored.LoginID == cur.LoginID {
				s.log(ctx, slog.LevelWarn, "a refresh token was spent twice", spentTwice(cause))
				s.entry.Doubt(ctx, stored, v)
			}
			return true, nil
		}
		if stored != nil && stored.PutBackAt.After(next.PutBackAt) {
			next.PutBackAt = stored.PutBackAt // Another process has found out more.
		}
		bury(next, unknown, cause, s.cfg.entries.Target)
		if err == nil {
			_, err = s.entry.Save(ctx, next, v)
		}
		if errors.Is(err, tokencache.ErrConflict) {
			return true, nil
		}
		if err != nil {
			s.log(ctx, slog.LevelWarn, "the refusal of the refresh token could not be stored", err)
		}
		s.apply(ctx, s.entry.Drop()) // A dead refresh token need not be saved any more.
		s.mu.Lock()
		s.refused = next
		s.mu.Unlock()
		return false, deadError(next)
	case ErrUnavailable, ErrMisconfigured:
		if unknown {
			break
		}
		// It was certainly not spent, so the journal would mislead later readers.
		if _, err := s.entry.Save(ctx, next, version); err != nil && !errors.Is(err, tokencache.ErrConflict) {
			s.log(ctx, slog.LevelWarn, "the journal could not be cleared", err)
		}
	}
	return false, cause
}
