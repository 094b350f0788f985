package entry

import (
	"context"
	"errors"

	"github.com/stayauth/stayauth/tokencache"
)

// A Start is how a refresh takes the lock, when it knows what the cache holds. If the store can do
// both at once, the journal is written with the lock, provided that the cache still holds that; so
// nothing has to be read again under the lock. The zero Start begins nothing.
type Start struct {
	At      tokencache.Version // what the cache holds
	Rec     *tokencache.Record // nil: take the lock, and no more
	Journal *tokencache.Record // Rec with a refresh in flight

	begun tokencache.Version // that of the Journal, if it was written
	end   func(context.Context, *tokencache.Record, tokencache.Version) (tokencache.Version, error)

	saved *tokencache.Record // what came of the refresh
	at    tokencache.Version // its version
}

// LockBy is LockAt that also writes the journal, if it can.
func (e *Entry) LockBy(s *Start) Lock {
	if s.Rec == nil {
		return e.LockAt(s.At)
	}
	return func(ctx context.Context) (unlock func() error, err error) {
		return e.lock(ctx, func(ctx context.Context) (func() error, error) {
			if e.pending != nil { // The cache holds an older state.
				return e.lockOwn(ctx, e.at(s.At))
			}
			// What was found under this key is ours, whatever is under that of earlier
			// versions.
			v, end, unlock, err := e.cfg.Cache.Begin(ctx, e.Named(), s.Journal, s.At)
			if errors.Is(err, errors.ErrUnsupported) {
				return e.lockOwn(ctx, e.at(s.At))
			}
			if err != nil {
				return nil, err
			}
			e.atFormer.Store(false)
			s.begun, s.end = v, end
			return unlock, nil
		})
	}
}

// Begun reports whether Load returns the login as it was read, because the journal was written.
func (s *Start) Begun() bool { return s.begun != "" && s.Rec != nil }

// save saves what came of the refresh, and with it releases the lock, if the journal is still
// there and was written with the lock.
func (s *Start) save(ctx context.Context, e *Entry, rec *tokencache.Record, version tokencache.Version) (tokencache.Version, error) {
	save := s.end
	if save == nil || version != s.begun {
		save = e.Save
	}
	v, err := save(ctx, rec, version)
	if err == nil {
		s.saved, s.at = rec, v
	}
	return v, err
}

// Saved returns the version at which the cache holds rec, or "" if it was not saved as it is.
func (s *Start) Saved(rec *tokencache.Record) tokencache.Version {
	if s.saved != rec {
		return ""
	}
	return s.at
}
