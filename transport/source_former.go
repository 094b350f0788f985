package transport

import (
	"context"
	"errors"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// Until what a token is for became part of its name, the logins of an Endpoint that
// asks for an audience were kept under the key without one: all audiences under the
// same. Such a login stays where it is, because processes of that version may run
// beside this one, and would be logged out if it moved. A record is never copied or
// moved from one name to the other, so a refresh token is in one entry, under one
// lock, whichever version spends it.
//
// The first Source that takes over such a record writes into it what it is for, and
// then it is no other's. New logins go to that entry for as long as it exists, so
// that both versions see them, and to the key with the audience after that.

// For that to be told from what this version writes under a key without an audience,
// every such record says what it is for: Record.For, which earlier versions hand on
// when they refresh.

// forNothing is the Record.For of a login whose Endpoint asks for nothing. What others
// ask for always has a name and a "=" in it.
const forNothing = "default"

// key returns the key of the entry that this Source works on.
func (s *Source) key() tokencache.Key {
	if s.atFormer.Load() {
		return s.former()
	}
	return s.named()
}

// former returns the key that earlier versions of this module used.
func (s *Source) former() tokencache.Key {
	k := s.named()
	k.Audience = ""
	return k
}

// named returns the key of the login with all its parts.
func (s *Source) named() tokencache.Key {
	k := s.cfg.Key
	k.Account = s.account
	return k
}

// owns reports whether a record is that of an account of this configuration.
func (cfg *SourceConfig) owns(rec *tokencache.Record) bool {
	key := cfg.Key
	if key.Account = rec.Key.Account; key != rec.Key && cfg.unnamed {
		key.Audience = ""
	}
	return key == rec.Key && (key.Audience != "" || cfg.claimable(rec))
}

// claimable reports whether a record under a key without an audience can be that of a
// Source with this configuration.
func (cfg *SourceConfig) claimable(rec *tokencache.Record) bool {
	return cfg.what == "" || rec.For == "" || rec.For == cfg.what
}

// loadOwn loads the record of key. One that is for something else is not found.
func (s *Source) loadOwn(ctx context.Context, key tokencache.Key) (*tokencache.Record, tokencache.Version, error) {
	rec, v, err := s.cfg.Cache.Load(ctx, key)
	if err == nil && key.Audience == "" && !s.cfg.claimable(rec) {
		return nil, "", tokencache.ErrNotFound
	}
	return rec, v, err
}

// locate loads the record from the entry that is this Source's, and says which that
// is. Nothing is changed, so it needs no lock.
func (s *Source) locate(ctx context.Context) (key tokencache.Key, rec *tokencache.Record, v tokencache.Version, err error) {
	key = s.named()
	rec, v, err = s.loadOwn(ctx, key)
	if !s.cfg.unnamed || !errors.Is(err, tokencache.ErrNotFound) {
		return key, rec, v, err
	}
	old, oldVersion, oldErr := s.loadOwn(ctx, s.former())
	if errors.Is(oldErr, tokencache.ErrNoTrace) {
		return key, rec, v, err
	}
	if errors.Is(oldErr, tokencache.ErrNotFound) {
		return key, rec, v, oldErr // It may have been there, and have been ended there.
	}
	return s.former(), old, oldVersion, oldErr // One that cannot be read may be ours.
}

// lockOwn locks whichever of the two entries is this Source's. While it waits, that
// may become the other one.
func (s *Source) lockOwn(ctx context.Context, lock func(tokencache.Key) (func() error, error)) (release func() error, err error) {
	if !s.cfg.unnamed {
		return lock(s.named())
	}
	key, err := s.whereabouts(ctx)
	for err == nil {
		if release, err = lock(key); err != nil {
			return nil, err
		}
		locked, stays := key, false
		func() {
			defer func() { // also if the Store panics
				if !stays {
					release()
				}
			}()
			key, err = s.whereabouts(ctx)
			stays = err == nil && key == locked
		}()
		if stays {
			s.atFormer.Store(key != s.named())
			return release, nil
		}
	}
	return nil, err
}

// whereabouts is locate for the key alone.
func (s *Source) whereabouts(ctx context.Context) (tokencache.Key, error) {
	key, _, _, err := s.locate(ctx)
	if errors.Is(err, tokencache.ErrNotFound) || errors.Is(err, tokencache.ErrCorrupt) {
		err = nil
	}
	return key, err
}

// mark writes into rec whose it is and, if its key does not say, what it is for.
func (s *Source) mark(rec *tokencache.Record) {
	rec.Key = s.key()
	if s.cfg.what != "" && s.key().Audience == "" {
		rec.For = s.cfg.what
	}
}

// takeOver makes a record under the former key that of this Source, and stores
// that. Its access token may be for something else. It is not used if the refresh can
// tell the provider what the next one is to be for. The lock is held.
func (s *Source) takeOver(ctx context.Context, rec *tokencache.Record, v tokencache.Version) (*tokencache.Record, tokencache.Version, error) {
	rec = rec.Clone()
	s.mark(rec)
	if s.cfg.asks && rec.RefreshToken != "" {
		rec.Expiry = rec.ObtainedAt
		if rec.Expiry.IsZero() {
			rec.Expiry = time.Unix(1, 0) // Zero would mean that it is not known.
		}
	}
	v, err := s.cfg.Cache.Save(ctx, s.key(), rec, v)
	return rec, v, err
}
