package transport

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// A store can lose what it has confirmed: somebody flushes it, it evicts, an empty replica
// is promoted. That is no logout, so a process that holds such a login puts it back. But it
// may hold an old state of it, whose refresh token another process has spent, and which a
// strict provider would take for stolen. So what was put back is not spent at once: those
// who run Pool.KeepFresh look for losses all the time, and put what is newer in its place.

const (
	// newerTime is how long those have time for that, see lossPause.
	newerTime = 5 * time.Second

	// traceTime is how long a store remembers logouts at least, see tokencache.ErrNoTrace.
	// What has not been in the store since may have been ended.
	traceTime = 30 * 24 * time.Hour
)

// lost returns the record to put back after err was the answer to a Load: nil, unless the
// store has lost the login and this process has it.
func (s *Source) lost(err error) *tokencache.Record {
	cur := s.cur.Load()
	if !errors.Is(err, tokencache.ErrNoTrace) || cur == nil || cur.rec.RefreshToken == "" || wallNow().Sub(cur.rec.ObtainedAt) > traceTime {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refused != nil && s.refused.RefreshToken == cur.rec.RefreshToken:
		return s.refused // with the tombstone
	case s.dead != nil:
		return nil
	}
	return cur.rec
}

// putBack saves rec, which the store had lost at the given time, in place of version.
func (s *Source) putBack(ctx context.Context, rec *tokencache.Record, version tokencache.Version, at time.Time) (*tokencache.Record, tokencache.Version, error) {
	rec = rec.Clone()
	rec.PutBackAt, rec.For = at, ""
	s.mark(rec)
	version, err := s.cfg.Cache.Save(ctx, s.key(), rec, version)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.emit(ctx, Event{Type: EventRestored, Generation: rec.Generation, Expiry: rec.Expiry, Err: &Error{Kind: ErrStorage, Op: "load", Err: tokencache.ErrNoTrace,
			Remedy: "the login was put back; find out whether the store was flushed, evicts or was replaced, because it loses logins"}}, false)
	}
	return rec, version, err
}

// awaitNewer waits, if rec was put back, until whoever knows a newer state of the login has
// put that in its place. It reports whether it has waited.
func awaitNewer(ctx context.Context, rec *tokencache.Record) bool {
	if rec == nil || rec.PutBackAt.IsZero() || rec.RefreshToken == "" {
		return false
	}
	wait := min(rec.PutBackAt.Add(newerTime).Sub(wallNow()), newerTime) // Clocks differ.
	return wait > 0 && sleep.For(ctx, wait)
}

// restore puts the login back if the store has lost it, or has an older state of it that
// somebody else has put back. It reports whether it was lost, perhaps just now.
func (s *Source) restore(ctx context.Context) (lost bool) {
	cur := s.cur.Load()
	if cur == nil || cur.rec.RefreshToken == "" {
		return false
	}
	defer s.deliverSafely(ctx)
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	for range 3 {
		key, rec, version, err := s.locate(ctx)
		switch {
		case s.lost(err) != nil:
			if lost = true; s.busy() {
				return true // The flight will find out.
			}
			// Under the lock, so that it does not undo a logout. Somebody who waits for what
			// we may know has it, but has put something back before.
			unlock, err := s.lockAt(ctx, "")
			if errors.Is(err, tokencache.ErrConflict) {
				continue
			}
			if err == nil {
				_, _, err = s.load(ctx)
				unlock()
			}
			if err != nil {
				s.log(ctx, slog.LevelDebug, "the store has lost the login, which could not be put back", err)
			}
			return true
		case err == nil && key == s.key() && !rec.PutBackAt.IsZero() && newer(cur.rec, rec) && !newer(rec, cur.rec):
			if _, _, err := s.putBack(ctx, cur.rec, version, rec.PutBackAt); !errors.Is(err, tokencache.ErrConflict) {
				return true
			}
			lost = true
		default: // What was put back a moment ago tells of others that were lost.
			return lost || err == nil && within(wallNow(), rec.PutBackAt.Add(newerTime), newerTime)
		}
	}
	return lost
}

// vanished says that a login is gone which this process has held, and did not end.
func vanished() *Error {
	return &Error{Kind: ErrLoginRequired, Op: "refresh",
		Remedy: "the login is not in the store any more: it was ended elsewhere, or the store has lost it; log in again"}
}
