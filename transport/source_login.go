package transport

import (
	"context"
	"errors"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/bearer"
	"github.com/stayauth/stayauth/transport/internal/entry"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// A Revoker is a Refresher that can tell the provider that a login has ended
// (RFC 7009).
type Revoker interface {
	// Revoke returns nil only if the tokens of rec are dead at the provider. If the
	// provider has no way to revoke them, the error wraps errors.ErrUnsupported.
	Revoke(ctx context.Context, rec *tokencache.Record) error
}

// Login stores the tokens of a new login, from Endpoint.Exchange for instance, in place of
// whatever login there was. This process uses them at once, and others when they next reload
// the cache. Login waits for a refresh in flight, for two minutes at most; after two seconds
// EventWaiting says for whom.
//
// A record whose Key names another issuer or client is an error: its refresh token may be sent
// only to those (RFC 6749 section 10.4).
//
// The login gets a LoginID of its own, unless rec has one and a Generation of 0: then rec is
// new, and the program that made it can recognize it by its LoginID.
//
// If the provider has refused a login but would accept it again, such as that of an account
// which is no longer locked, no browser is needed: rec may be the stored record, as
// tokencache.Cache.Load returns it.
//
// On an error the stored login is the old one or, if the store could not confirm the save,
// perhaps the new one; rec can be used again. A stored record that cannot be read
// (tokencache.ErrCorrupt) is not replaced: with the right key it may be good. Forget removes
// it.
func (s *Source) Login(ctx context.Context, rec *tokencache.Record) error {
	if rec == nil || rec.AccessToken == "" && rec.RefreshToken == "" {
		return &Error{Kind: ErrMisconfigured, Op: "login", Remedy: "the record holds no token; pass what Endpoint.Exchange or endpoint.FromOAuth2 returned"}
	}
	next := rec.Clone()
	next.Select("") // A login brings one token, which is its own.
	_, thumbprint := next.Proof()
	if remedy := bearer.Normalize(&next.TokenType, thumbprint != ""); remedy != "" {
		return &Error{Kind: ErrMisconfigured, Op: "login", Remedy: remedy}
	}
	if k := s.entry.Named(); next.Key.Issuer != "" && next.Key.Issuer != k.Issuer || next.Key.ClientID != "" && next.Key.ClientID != k.ClientID {
		return &Error{Kind: ErrMisconfigured, Op: "login", Remedy: "the record is that of another issuer or client; log in with the Source's own"}
	}
	if next.TokenURL == "" {
		next.TokenURL = s.cfg.Refresher.Identity().TokenURL
	}
	next.Key = s.entry.Named()
	if err := s.cfg.check(next); err != nil && !errors.Is(err, ErrLoginRequired) {
		return err
	}
	now := wallNow()
	if next.LoginID == "" || next.Generation > 0 { // Otherwise the caller has named its new login.
		next.LoginID = newLoginID()
	}
	next.Generation = 1
	next.Attempt, next.InterruptedAt, next.Tombstone, next.Copy, next.EndingAt = nil, time.Time{}, nil, nil, time.Time{}
	if next.ObtainedAt.IsZero() {
		next.ObtainedAt = now
	}
	next.AuthorizedAt = now
	next.Select(s.cfg.entries.Target)

	defer s.deliverWithin(ctx)
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	next.For = ""
	s.entry.Mark(next)
	for try := 1; ; try++ {
		_, version, err := s.cfg.Cache.Load(ctx, s.entry.Key())
		if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
			return storageError("login", err)
		}
		_, err = s.entry.Save(ctx, next, version)
		if errors.Is(err, tokencache.ErrConflict) && ctx.Err() == nil && try < saveAgain {
			continue // A login wins over whatever came between.
		}
		if err != nil {
			return storageError("login", err)
		}
		break
	}
	s.apply(ctx, s.entry.Drop())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cur.Store(s.snapshot(next))
	s.logins++
	s.reset()
	s.emit(ctx, Event{Type: EventLogin}, false)
	return nil
}

// longestLock is how long Login, Logout and Forget wait for others that work on the login. A
// refresh may wait longer for its provider, but a user should not.
const longestLock = 2 * time.Minute

// lock takes the turn and the lock on the login, for a caller that changes it. A wait that a
// user may notice is reported.
func (s *Source) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, longestLock)
	defer cancel()
	return s.locked(entry.Announced(ctx, s.entry.Lock, func(err error) {
		s.waits(ctx, err, "still waiting for it, for two minutes in all", func() bool { return false })
	}))
}

// saveAgain is how often Login tries to save while others write without the lock.
const saveAgain = 20

// Logout ends the login: it revokes the tokens at the provider, if the Refresher is a Revoker,
// and then removes them from the cache. Like Login, it waits for a refresh in flight, which
// therefore cannot bring the login back. Logging out twice is not an error.
//
// If the provider asks to try again soon, Logout does, up to twice. If the tokens could not be
// revoked, it returns an error and removes nothing: they are still alive, and Logout can be
// tried again. Forget removes them without revoking them. If the provider has no way to revoke
// them (errors.ErrUnsupported), Logout removes them from the cache and succeeds, and Err of
// EventLogout says that they live on. So it does if the store has lost them, and no process that
// has them in memory has put them back within some seconds; and if the record is a copy
// (tokencache.ErrCopy), because the tokens belong to another store.
func (s *Source) Logout(ctx context.Context) error { return s.end(ctx, true) }

// Forget removes the login from the cache and leaves the tokens alive at the
// provider. It also removes a record that cannot be read.
func (s *Source) Forget(ctx context.Context) error { return s.end(ctx, false) }

func (s *Source) end(ctx context.Context, revoke bool) error {
	defer s.deliverWithin(ctx)
	if revoke && s.cur.Load() == nil { // What others have they put back, but not while this process has the lock.
		waiting, cancel := context.WithTimeout(ctx, entry.Timeout)
		s.locateReturning(waiting)
		cancel()
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	rec, version, err := s.entry.Read(ctx)
	stored := !errors.Is(err, tokencache.ErrNotFound)
	switch {
	case !stored:
	case errors.Is(err, tokencache.ErrCorrupt) && !revoke:
	case err != nil:
		return storageError("logout", err)
	}
	lost := errors.Is(err, tokencache.ErrNoTrace)
	held := s.held()
	if lost || held != nil && rec != nil && rec.LoginID == held.LoginID && rec.Generation < held.Generation {
		rec = held // The store has lost it, or has what somebody has put back who knew less.
	}
	if pending, _ := s.entry.Pending(); pending != nil {
		rec = pending // Newer than what is stored.
	}
	var alive error // why the tokens live on
	switch {
	case !revoke:
	case rec == nil && (isLost(err) || s.mayReturn(ctx, err)):
		alive = &Error{Kind: ErrStorage, Op: "logout", Err: err, Remedy: "the tokens were not revoked, because the store has lost them; revoke them at the provider if that matters"}
	case rec != nil && rec.IsCopy():
		alive, revoke = &Error{Kind: ErrStorage, Op: "logout", Err: tokencache.ErrCopy, Remedy: "it was removed here, and lives on in the other store"}, false
	}
	if rec != nil {
		rec = rec.Clone()
		rec.Select("") // The login is to end, whichever of its tokens this Source has.
	}
	if r, ok := s.cfg.Refresher.(Revoker); ok && revoke && rec != nil && rec.Tombstone == nil {
		if alive = revokeBounded(ctx, r, rec); alive != nil && !errors.Is(alive, errors.ErrUnsupported) {
			return alive
		}
	}
	if stored || lost { // Also to leave a trace: another process may hold what the store has lost.
		if err := s.entry.Delete(ctx, version); err != nil && (stored || rec != nil) {
			return storageError("logout", err)
		}
	}
	s.apply(ctx, s.entry.Drop())
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.cur.Load()
	s.cur.Store(ended()) // Not nil, so that a reload that has read the record before this cannot publish it.
	s.logins++
	s.reset()
	s.dead = &Error{Kind: ErrLoginRequired, Op: "token", Remedy: "log in again"} // This needs no event.
	if stored || alive != nil || known != nil && known.rec.LoginID != "" {
		s.emit(ctx, Event{Type: EventLogout, Err: alive}, false)
	}
	return nil
}

// held returns the record in memory, even if it is too old to be put back, or nil.
func (s *Source) held() *tokencache.Record {
	rec := s.puttable()
	if cur := s.cur.Load(); rec == nil && cur != nil && cur.rec.LoginID != "" {
		rec = cur.rec
	}
	return rec
}

const (
	revokeTries    = 3
	maxRevokePause = 10 * time.Second // the user waits, as do others that need the lock
)

// revokeBounded revokes the tokens, and tries again if the provider answers that it is unable
// to do so now (RFC 7009 section 2.2.1). A provider that does not answer at all is not asked
// again: the user may be offline.
func revokeBounded(ctx context.Context, r Revoker, rec *tokencache.Record) error {
	for try := 1; ; try++ {
		err := r.Revoke(ctx, rec)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind != ErrUnavailable || e.Status == 0 || try == revokeTries {
			return err
		}
		wait := max(e.RetryAfter, time.Duration(try)*time.Second)
		if wait > maxRevokePause {
			return err
		}
		if !sleep.For(ctx, wait) {
			return err
		}
	}
}
