package transport

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// look adopts what the cache holds, if that is of use, without taking the lock.
// An error says that there is no more to be done. Neither means that only the
// critical section can tell.
func (s *Source) look(ctx context.Context, refused tokencache.Secret) (*snapshot, error) {
	cur := s.cur.Load()
	rec, _, err := s.cfg.Cache.Load(ctx, s.key())
	switch {
	case errors.Is(err, tokencache.ErrNotFound):
		if err := s.cfg.Refresher.Check(nil); cur == nil && err != nil {
			return nil, err
		}
		return nil, nil
	case err != nil:
		return nil, storageError("load", err)
	}
	if snap := s.adopt(cur, rec, refused); snap != nil {
		return snap, nil
	}
	if rec.Tombstone != nil && (cur == nil || !newer(&cur.rec, rec)) {
		return nil, deadError(rec.Tombstone)
	}
	return nil, nil
}

// adopt publishes the token of a record that came from the cache, if it is newer
// than the one in use, good, and not refused. A stale one is good for a start.
// cur is the one in use, as it was before the record was read.
func (s *Source) adopt(cur *snapshot, rec *tokencache.Record, refused tokencache.Secret) *snapshot {
	now := wallNow()
	switch {
	case rec.AccessToken == refused:
		return nil
	case cur != nil && !newer(rec, &cur.rec):
		if cur.fresh(now) && !newer(&cur.rec, rec) {
			return cur // A login of this process has come in between.
		}
		return nil
	}
	snap := s.snapshot(rec)
	if cur.usable(now) && !snap.fresh(now) || !snap.usable(now) {
		return nil
	}
	if !s.cur.CompareAndSwap(cur, snap) {
		return nil // A login or logout came between.
	}
	return snap
}

// newer reports whether a is a later state of the login than b, or a later login.
func newer(a, b *tokencache.Record) bool {
	if a.Grant != b.Grant {
		return !a.AuthorizedAt.Before(b.AuthorizedAt)
	}
	return a.Generation > b.Generation
}

// refresh is the critical section. Refresh tokens may be spent once, so the order
// of its steps is what keeps a login alive: lock, read again, be sure that the
// answer can be stored, leave a note, spend, store, and only then publish.
//
// waiting bounds the wait for the lock. The rest has a time of its own: a request
// must not be cut short because others were slow.
func (s *Source) refresh(waiting, ctx context.Context, refused tokencache.Secret) (snap *snapshot, adopted bool, err error) {
	// 1: one process at a time, and in it one goroutine.
	unlock, err := s.lock(waiting)
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err != nil {
		if snap, lookErr := s.look(ctx, refused); lookErr == nil && snap != nil {
			return snap, true, nil
		}
		return nil, false, err // Never refresh without the lock.
	}
	defer unlock()

	for range 3 {
		// In state unsaved, before one more refresh token is spent, is the best time to
		// save the last: a crash would now cost two.
		s.savePending(ctx)
		// 2: somebody may have done the work while we waited.
		cur, version, err := s.load(ctx)
		if err != nil {
			return nil, false, err
		}
		if cur != nil {
			if snap := s.adopt(s.cur.Load(), cur, refused); snap != nil {
				return snap, true, nil
			}
		}
		// 3: is there something to spend?
		if err := s.spendable(ctx, cur, version); err != nil {
			return nil, false, err
		}
		// 4, 5: find out that the answer cannot be stored while that is harmless.
		// Whatever keeps the journal from being written would keep the answer too.
		interrupted := cur != nil && cur.Attempt != nil
		if cur != nil && cur.RefreshToken != "" && s.pending == nil {
			version, err = s.prepare(ctx, cur, version)
			if errors.Is(err, tokencache.ErrConflict) {
				continue // A login or logout came between: read again.
			}
			if err != nil {
				return nil, false, err
			}
		}
		if interrupted {
			awaitLostRequest(ctx, cur.Attempt.At)
		}
		// 6: from here until 7 is done, a crash may lose the login.
		next, unknown, err := s.spend(ctx, cur, refused)
		if next == nil {
			again, err := s.noAnswer(ctx, cur, version, interrupted || unknown, asError(err))
			if again {
				continue
			}
			return nil, false, err
		}
		// 7: what is not saved is lost at the next crash. ctx has no say in this.
		saved := s.save(context.WithoutCancel(ctx), next, version)
		if saved == nil { // The user has logged out meanwhile.
			return nil, false, &Error{Kind: ErrLoginRequired, Op: "refresh", Remedy: "the login was ended elsewhere; log in again"}
		}
		// 8: publish. 9: unlock.
		snap := s.snapshot(saved)
		s.cur.Store(snap)
		return snap, false, err
	}
	return nil, false, &Error{Kind: ErrStorage, Op: "refresh", Err: tokencache.ErrConflict,
		Remedy: "other processes change this entry without taking its lock"}
}

// lock takes this process's turn and then the lock that all processes share.
// In state unsaved the latter is held already; unlock gives it back to the saver, or
// releases it if the login was saved meanwhile.
func (s *Source) lock(ctx context.Context) (unlock func(), err error) {
	turn := s.turns()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, &Error{Kind: ErrUnavailable, Op: "lock", Err: context.Cause(ctx), Remedy: "this login is busy; try again"}
	}
	var release func() error
	if p := s.pending; p != nil && p.unlock != nil {
		release, p.unlock = p.unlock, nil
	} else if release, err = s.cfg.Cache.Lock(ctx, s.key()); err != nil {
		<-turn
		if ctx.Err() != nil {
			return nil, &Error{Kind: ErrUnavailable, Op: "lock", Err: err,
				Remedy: "another process is working on this login; try again"}
		}
		return nil, storageError("lock", err)
	}
	return func() {
		if p := s.pending; p != nil && p.rec.RefreshToken != "" {
			p.unlock = release // The saver will unlock.
		} else if err := release(); err != nil {
			s.cfg.Logger.Warn("stayauth: unlock failed", "err", err)
		}
		<-turn
	}, nil
}

// load returns the newest record, nil if there is none. The lock is held.
func (s *Source) load(ctx context.Context) (*tokencache.Record, tokencache.Version, error) {
	if s.pending != nil {
		return s.pending.rec, s.pending.version, nil
	}
	rec, version, err := s.cfg.Cache.Load(ctx, s.key())
	if errors.Is(err, tokencache.ErrNotFound) {
		s.cur.Store(nil) // Logged out, by whichever process.
		return nil, "", nil
	}
	if err != nil {
		return nil, "", storageError("load", err)
	}
	// A store that was set back, by a failover or a restored backup, offers a refresh
	// token that has been spent. Memory knows better.
	if cur := s.cur.Load(); cur != nil && cur.rec.Grant == rec.Grant && cur.rec.Generation > rec.Generation {
		rec = &cur.rec
	}
	return rec, version, nil
}

// spendable returns the reason why cur cannot be refreshed.
func (s *Source) spendable(ctx context.Context, cur *tokencache.Record, version tokencache.Version) error {
	if cur != nil && cur.Tombstone != nil {
		return deadError(cur.Tombstone)
	}
	s.mu.Lock()
	dead, refused := s.dead, s.refused
	s.mu.Unlock()
	if dead != nil && cur != nil && refused != nil && refused.RefreshToken == cur.RefreshToken {
		// The tombstone could not be written. Until it is, others present the token too.
		if _, err := s.cfg.Cache.Save(ctx, s.key(), refused, version); err != nil {
			s.cfg.Logger.Debug("stayauth: the refusal of the refresh token could not be stored", "err", err)
		}
		return dead
	}
	return s.cfg.Refresher.Check(cur)
}

// prepare makes sure that an answer can be stored, and leaves the note that a
// refresh is in flight.
func (s *Source) prepare(ctx context.Context, cur *tokencache.Record, version tokencache.Version) (tokencache.Version, error) {
	if err := s.cfg.Cache.Preflight(ctx, s.key(), cur); err != nil {
		return "", storageError("preflight", err)
	}
	if cur.Attempt != nil {
		return version, nil // The note of the attempt whose outcome is unknown says it all.
	}
	note := cur.Clone()
	note.Attempt = &tokencache.Attempt{At: wallNow(), PID: os.Getpid()}
	version, err := s.cfg.Cache.Save(ctx, s.key(), note, version)
	if err != nil {
		return "", storageError("journal", err)
	}
	return version, nil
}

// lostRequestTime is how long the request of a process that died may still be under way.
// If it overtook ours, the provider would take ours for the older one, and what we
// store would be dead. A provider's grace is longer, by far.
const lostRequestTime = time.Second

// awaitLostRequest waits until a request that was sent at the given time, and whose
// sender is gone, has been dealt with by the provider.
func awaitLostRequest(ctx context.Context, sent time.Time) {
	wait := min(sent.Add(lostRequestTime).Sub(wallNow()), lostRequestTime)
	if wait <= 0 {
		return
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// promptRetries is how often a refresh token is presented again at once after an
// attempt with an unknown outcome. Most providers accept a spent token again for
// some seconds, just for this case.
const promptRetries = 2

// spend asks the provider. If it returns a record, that is the state of the
// login from now on, even if there is an error besides. If not, unknown reports
// whether the refresh token may have been spent all the same.
func (s *Source) spend(ctx context.Context, cur *tokencache.Record, refused tokencache.Secret) (next *tokencache.Record, unknown bool, err error) {
	s.mu.Lock()
	retries := promptRetries
	if s.lost > 0 {
		retries = 0 // They have been made, and the outage has outlasted any grace.
	}
	s.mu.Unlock()
	for try := 0; ; try++ {
		answer, err := s.cfg.Refresher.Refresh(ctx, cur)
		if answer != nil {
			return successor(cur, answer, refused), false, err
		}
		lost := errors.Is(err, ErrAmbiguous)
		unknown = unknown || lost
		if try == retries || !lost || asError(err).RetryAfter > 0 {
			return nil, unknown, err
		}
		pause := time.Duration(1+rand.Int64N(int64(500*time.Millisecond))) << try
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, unknown, err
		}
	}
}

// successor returns the state of the login after the provider's answer.
func successor(cur, answer *tokencache.Record, refused tokencache.Secret) *tokencache.Record {
	now := wallNow()
	next := &tokencache.Record{Grant: newGrant(), AuthorizedAt: now}
	if cur != nil {
		next = cur.Clone()
	}
	next.Generation++
	next.Attempt, next.Tombstone = nil, nil
	if answer.AccessToken != "" {
		next.AccessToken, next.TokenType = answer.AccessToken, answer.TokenType
		next.ObtainedAt, next.Expiry, next.RefreshAt = answer.ObtainedAt, answer.Expiry, answer.RefreshAt
		if cur != nil && refused != "" && cur.AccessToken == refused {
			next.ForcedAt = now
		}
	}
	// An answer without a refresh token, scope or identity leaves those as they are
	// (RFC 6749 sections 5.1 and 6, OpenID Connect Core section 12.2).
	if answer.RefreshToken != "" {
		if answer.RefreshToken != next.RefreshToken {
			next.RefreshExpiry = time.Time{} // that of the old one
		}
		next.RefreshToken = answer.RefreshToken
	}
	if !answer.RefreshExpiry.IsZero() {
		next.RefreshExpiry = answer.RefreshExpiry
	}
	if answer.Scope != "" {
		next.Scope = answer.Scope
	}
	if answer.IDToken != "" && sameIdentity(next.IDToken, answer.IDToken) {
		next.IDToken = answer.IDToken
	}
	if answer.TokenURL != "" {
		next.TokenURL = answer.TokenURL
	}
	if len(answer.Extra) > 0 {
		if next.Extra == nil {
			next.Extra = make(map[string]tokencache.Secret)
		}
		maps.Copy(next.Extra, answer.Extra)
	}
	return next
}

// noAnswer handles an attempt that brought nothing. unknown says that the refresh
// token may have been spent by this attempt or by an earlier one. It reports
// whether to start over, because the cache holds something newer.
func (s *Source) noAnswer(ctx context.Context, cur *tokencache.Record, version tokencache.Version, unknown bool, cause *Error) (again bool, err error) {
	if cur == nil || cur.RefreshToken == "" {
		if cause.Kind == ErrLoginRequired {
			// Somebody else's login, of which no tombstone can remind us: ask again, but
			// not soon.
			c := *cause
			c.RetryAt = wallNow().Add(misconfiguredPause)
			cause = &c
		}
		return false, cause
	}
	if s.pending != nil && cause.Kind != ErrLoginRequired {
		if unknown && cur.Attempt == nil { // There is no journal but memory.
			note := cur.Clone()
			note.Attempt = &tokencache.Attempt{At: wallNow(), PID: os.Getpid()}
			s.pending.rec = note
		}
		return false, cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	next := cur.Clone()
	next.Attempt = nil
	switch cause.Kind {
	case ErrLoginRequired:
		// Perhaps somebody without our lock was faster: a copy of the cache on another
		// machine, a program that does not know of locks. Then theirs is the login.
		stored, v, err := s.load(ctx)
		if err == nil && (stored == nil || stored.RefreshToken != cur.RefreshToken) {
			return true, nil
		}
		next.Tombstone = &tokencache.Tombstone{At: wallNow(), Code: cause.Code, Description: cause.Description, Interrupted: unknown}
		if err == nil {
			_, err = s.cfg.Cache.Save(ctx, s.key(), next, v)
		}
		if errors.Is(err, tokencache.ErrConflict) {
			return true, nil
		}
		if err != nil {
			s.cfg.Logger.Warn("stayauth: the refusal of the refresh token could not be stored", "err", err)
		}
		s.settled() // A dead refresh token need not be saved any more.
		s.mu.Lock()
		s.refused = next
		s.mu.Unlock()
		return false, deadError(next.Tombstone)
	case ErrUnavailable, ErrMisconfigured:
		if unknown {
			break
		}
		// Not spent for certain, so the note would mislead whoever reads it later.
		_, err := s.cfg.Cache.Save(ctx, s.key(), next, version)
		if err != nil && !errors.Is(err, tokencache.ErrConflict) {
			s.cfg.Logger.Warn("stayauth: the journal could not be cleared", "err", err)
		}
	}
	return false, cause
}

// deadError says why a login is needed.
func deadError(t *tokencache.Tombstone) *Error {
	e := &Error{Kind: ErrLoginRequired, Op: "refresh", Code: t.Code, Description: t.Description, Remedy: "log in again"}
	if t.Interrupted {
		e.Remedy = "an earlier refresh was interrupted before its answer could be saved, and the provider does not accept its refresh token again; log in again"
	}
	return e
}

// storageError describes a failure of the cache.
func storageError(op string, err error) error {
	return &Error{Kind: ErrStorage, Op: op, Err: err}
}
