package transport

import (
	"context"
	"errors"
	"log/slog"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
)

// restore puts the login back if the store has lost it, or has an older state of it that
// somebody else has put back. It reports whether it was lost, perhaps just now.
func (s *Source) restore(ctx context.Context) (lost bool) {
	cur := s.cur.Load()
	if cur == nil || cur.rec.RefreshToken == "" {
		return false
	}
	defer s.deliver(ctx)
	ctx, cancel := context.WithTimeout(ctx, entry.Timeout)
	defer cancel()
	for range 3 {
		key, rec, version, err := s.entry.Locate(ctx)
		switch {
		case errors.Is(err, tokencache.ErrNoTrace) && s.puttable() != nil:
			if lost = true; s.busy() {
				return true // The flight will find out.
			}
			// Under the lock, so that it does not undo a logout. Somebody who waits for what
			// we may know has it, but has put something back before.
			unlock, err := s.locked(s.entry.LockAt("")(ctx))
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
		case err == nil && key == s.entry.Key() && !rec.PutBackAt.IsZero() && newer(cur.rec, rec) && !newer(rec, cur.rec):
			rec, _, err := s.entry.PutBack(ctx, cur.rec, version, rec.PutBackAt)
			if err == nil {
				s.restored(ctx, rec)
			}
			if !errors.Is(err, tokencache.ErrConflict) {
				return true
			}
			lost = true
		default: // What was put back a moment ago tells of others that were lost.
			return lost || err == nil && within(wallNow(), rec.PutBackAt.Add(newerTime), newerTime)
		}
	}
	return lost
}
