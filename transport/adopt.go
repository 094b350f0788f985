package transport

import (
	"context"
	"errors"

	"github.com/stayauth/stayauth/tokencache"
)

// look adopts what the cache holds, if that is of use, without taking the lock.
// An error says that there is no more to be done. Neither means that only the
// critical section can tell.
func (s *Source) look(ctx context.Context, f *flight) (*snapshot, error) {
	cur := s.cur.Load()
	key, rec, at, err := s.locate(ctx)
	f.at = at
	switch {
	case errors.Is(err, tokencache.ErrNotFound):
		if err := s.cfg.Refresher.Check(s.orNothing(nil)); cur == nil && err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.dead != nil && errors.Is(err, ErrLoginRequired) {
				return nil, s.dead // which may know more
			}
			return nil, err
		}
		return nil, nil
	case err != nil:
		return nil, storageError("load", err)
	case key != s.named() && rec.For == "":
		return nil, nil
	}
	if snap := s.adopt(ctx, f, cur, rec); snap != nil {
		return snap, nil
	}
	if rec.Tombstone != nil && (cur == nil || !newer(cur.rec, rec)) {
		return nil, deadError(rec.Tombstone)
	}
	return nil, nil
}

// adopt publishes the token of a record that came from the cache, if it is newer
// than the one in use, good, and not refused. A stale one is good for a start.
// cur is the one in use, as it was before the record was read.
func (s *Source) adopt(ctx context.Context, f *flight, cur *snapshot, rec *tokencache.Record) *snapshot {
	now := wallNow()
	switch {
	case rec.AccessToken == f.refused:
		return nil
	case cur != nil && !newer(rec, cur.rec):
		if cur.fresh(now) && !newer(cur.rec, rec) {
			return cur // A login of this process has come in between.
		}
		return nil
	}
	snap := s.snapshot(rec)
	if cur.usable(now) && !cur.refused && !snap.fresh(now) || !snap.usable(now) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cur.CompareAndSwap(cur, snap) {
		return nil // A login or logout came between.
	}
	if cur != nil || s.dead != nil { // Else it is what a process finds when it starts.
		s.emit(ctx, f.end(Event{Type: EventAdopted}), false)
	}
	return snap
}

// newer reports whether a is a later state of the login than b, or a later login.
func newer(a, b *tokencache.Record) bool {
	if a.LoginID != b.LoginID {
		return !a.AuthorizedAt.Before(b.AuthorizedAt)
	}
	return a.Generation > b.Generation
}
