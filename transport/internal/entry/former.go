package entry

import (
	"context"
	"errors"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// Before the audience of a token became part of its key, the logins of an Endpoint that asks
// for one were stored under the key without it, the same for all audiences. Such a login stays
// where it is, because processes of an earlier version may run beside this one, and would be
// logged out if it moved. A record is never copied or moved from one key to the other, so that
// a refresh token is in one entry, under one lock, whichever version spends it.
//
// The first Source that takes over such a record writes into it what it is for, which makes it
// its own. New logins go to that entry for as long as it exists, so that both versions see
// them, and then to the key with the audience.

// To tell such a record from what this version writes under a key without an audience, every
// record there says what it is for, in Record.For, which earlier versions retain when they
// refresh.

// ForNothing is the Record.For of a login whose Endpoint asks for no audience. For the others
// it has the form name=value.
const ForNothing = "default"

// Key returns the key of the entry that this Entry works on.
func (e *Entry) Key() tokencache.Key {
	if e.atFormer.Load() {
		return e.former()
	}
	return e.Named()
}

// former returns the key that earlier versions of this module used.
func (e *Entry) former() tokencache.Key {
	k := e.Named()
	k.Audience = ""
	return k
}

// Named returns the key of the login with all its parts.
func (e *Entry) Named() tokencache.Key {
	k := e.cfg.Key
	k.Account = e.account
	return k
}

// Owns reports whether a record belongs to an account of this configuration.
func (cfg *Config) Owns(rec *tokencache.Record) bool {
	key := cfg.Key
	if key.Account = rec.Key.Account; key != rec.Key && cfg.Unnamed {
		key.Audience = ""
	}
	return key == rec.Key && (key.Audience != "" || cfg.claimable(rec))
}

// claimable reports whether a record under a key without an audience can belong to a Source
// with this configuration.
func (cfg *Config) claimable(rec *tokencache.Record) bool {
	return cfg.What == "" || rec.For == "" || rec.For == cfg.What
}

// Read loads the record of the entry.
func (e *Entry) Read(ctx context.Context) (*tokencache.Record, tokencache.Version, error) {
	return e.loadOwn(ctx, e.Key())
}

// loadOwn loads the record of key. One that is for something else counts as not found.
func (e *Entry) loadOwn(ctx context.Context, key tokencache.Key) (*tokencache.Record, tokencache.Version, error) {
	rec, v, err := e.cfg.Cache.Load(ctx, key)
	if err == nil && key.Audience == "" && !e.cfg.claimable(rec) {
		return nil, "", tokencache.ErrNotFound
	}
	if err == nil {
		rec.Select(e.cfg.Target)
	}
	return rec, v, err
}

// Locate loads the record from whichever of the two entries is this Entry's, and returns its
// key. It changes nothing, so it needs no lock.
func (e *Entry) Locate(ctx context.Context) (key tokencache.Key, rec *tokencache.Record, v tokencache.Version, err error) {
	key = e.Named()
	rec, v, err = e.loadOwn(ctx, key)
	if !e.cfg.Unnamed || !errors.Is(err, tokencache.ErrNotFound) {
		return key, rec, v, err
	}
	old, oldVersion, oldErr := e.loadOwn(ctx, e.former())
	if _, lost := errors.AsType[*tokencache.LostError](oldErr); lost {
		return e.former(), nil, "", oldErr // It was there, and that is where it is put back.
	}
	if errors.Is(oldErr, tokencache.ErrNoTrace) {
		return key, rec, v, err
	}
	if errors.Is(oldErr, tokencache.ErrNotFound) {
		return key, rec, v, oldErr // It may have been there, and been ended there.
	}
	return e.former(), old, oldVersion, oldErr // A record that cannot be read may be ours.
}

// lockOwn locks whichever of the two entries is this Entry's. While it waits, that may change.
func (e *Entry) lockOwn(ctx context.Context, lock sharedLock) (release func() error, err error) {
	if !e.cfg.Unnamed {
		return lock(ctx, e.Named())
	}
	key, err := e.whereabouts(ctx)
	for err == nil {
		if release, err = lock(ctx, key); err != nil {
			return nil, err
		}
		locked, stays := key, false
		func() {
			defer func() { // also if the Store panics
				if !stays {
					release()
				}
			}()
			key, err = e.whereabouts(ctx)
			stays = err == nil && key == locked
		}()
		if stays {
			e.atFormer.Store(key != e.Named())
			return release, nil
		}
	}
	return nil, err
}

// whereabouts is Locate for the key alone.
func (e *Entry) whereabouts(ctx context.Context) (tokencache.Key, error) {
	key, _, _, err := e.Locate(ctx)
	if errors.Is(err, tokencache.ErrNotFound) || errors.Is(err, tokencache.ErrCorrupt) {
		err = nil
	}
	return key, err
}

// Mark writes into rec whose it is and, if its key does not say so, what it is for.
func (e *Entry) Mark(rec *tokencache.Record) {
	rec.Key = e.Key()
	if e.cfg.What != "" && e.Key().Audience == "" {
		rec.For = e.cfg.What
	}
}

// takeOver makes a record under the former key that of this Entry, and stores it. Its access
// token may be for something else, so it is not used if a refresh can name what the next one is
// to be for. The lock is held.
func (e *Entry) takeOver(ctx context.Context, rec *tokencache.Record, v tokencache.Version) (*tokencache.Record, tokencache.Version, error) {
	rec = rec.Clone()
	e.Mark(rec)
	if e.cfg.Asks && rec.RefreshToken != "" {
		rec.Select("")
		rec.Expiry = rec.ObtainedAt
		if rec.Expiry.IsZero() {
			rec.Expiry = time.Unix(1, 0) // Zero would mean unknown.
		}
		rec.Select(e.cfg.Target)
	}
	v, err := e.Save(ctx, rec, v)
	return rec, v, err
}
