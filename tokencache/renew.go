package tokencache

import (
	"context"
	"errors"
	"fmt"
)

// A renewer is a Store that does at once what comes before a refresh token is spent, and at once
// what comes afterwards: a server is asked twice instead of five times. Package storetest checks
// every Store that has this method.
//
// Begin is LockAt, Preflight and Save. It waits for the lock and, if the entry is at old then, which
// is not "", replaces it by data and returns the new version. If the entry is not, or no longer,
// at old, the error wraps ErrConflict, and nothing has changed. After any error the lock is not held.
//
// end is Save, and releases the lock when it succeeds; otherwise the lock is still held. unlock is
// to be called in any case; if end has released the lock, it only tells how that went.
type renewer interface {
	Begin(ctx context.Context, name string, data []byte, old Version) (
		v Version, end func(ctx context.Context, data []byte, old Version) (Version, error), unlock func() error, err error)
}

// Begin begins a refresh of the record of key: it takes the lock, and saves r, the journal, if the
// stored record is still at old; otherwise the error wraps ErrConflict. end saves what came of the
// refresh, and releases the lock if that succeeds. Call unlock in any case.
//
// Only a store that can do this at once has a method Begin of its own, with the name of the entry
// and what to save instead of key and r. For others the error wraps errors.ErrUnsupported: use
// LockAt, Load, Preflight and Save, one after the other.
func (c *Cache) Begin(ctx context.Context, key Key, r *Record, old Version) (
	v Version, end func(ctx context.Context, r *Record, old Version) (Version, error), unlock func() error, err error) {
	store, ok := c.store.(renewer)
	if !ok || old == "" {
		return "", nil, nil, fmt.Errorf("entry %q: a refresh in one step: %w", key.Name(), errors.ErrUnsupported)
	}
	var endBy func(ctx context.Context, data []byte, old Version) (Version, error)
	begin := func(ctx context.Context, name string, data []byte, old Version) (v Version, err error) {
		v, endBy, unlock, err = store.Begin(ctx, name, data, old)
		return v, err
	}
	if v, err = c.saveTo(ctx, savesBy{c.store, begin}, key, r, old); err != nil {
		return "", nil, nil, err
	}
	return v, func(ctx context.Context, r *Record, old Version) (Version, error) {
		return c.saveTo(ctx, savesBy{c.store, func(ctx context.Context, _ string, data []byte, old Version) (Version, error) {
			return endBy(ctx, data, old)
		}}, key, r, old)
	}, unlock, nil
}

// savesBy is a Store that saves in another way.
type savesBy struct {
	Store
	save func(ctx context.Context, name string, data []byte, old Version) (Version, error)
}

func (s savesBy) Save(ctx context.Context, name string, data []byte, old Version) (Version, error) {
	return s.save(ctx, name, data, old)
}
