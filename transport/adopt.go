package transport

import (
	"context"
	"errors"

	"github.com/stayauth/stayauth/tokencache"
)

// look adopts what the cache holds, if that is of use, without taking the lock.
// An error says that there is no more to be done. Neither means that only the
// critical section can tell; at is the version that was of no use.
func (s *Source) look(ctx context.Context, refused tokencache.Secret) (snap *snapshot, at tokencache.Version, err error) {
	cur := s.cur.Load()
	rec, at, err := s.cfg.Cache.Load(ctx, s.key())
	switch {
	case errors.Is(err, tokencache.ErrNotFound):
		if err := s.cfg.Refresher.Check(nil); cur == nil && err != nil {
			return nil, "", err
		}
		return nil, "", nil
	case err != nil:
		return nil, "", storageError("load", err)
	}
	if snap := s.adopt(cur, rec, refused); snap != nil {
		return snap, at, nil
	}
	if rec.Tombstone != nil && (cur == nil || !newer(&cur.rec, rec)) {
		return nil, at, deadError(rec.Tombstone)
	}
	return nil, at, nil
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
