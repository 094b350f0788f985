package tokencache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// Begin begins a refresh of the record of key: it takes the lock, and saves r, the journal, if the
// stored record is still at old; otherwise the error wraps ErrConflict. end saves what came of the
// refresh, and releases the lock if that succeeds. Call unlock in any case.
//
// Only a store that can do this at once has a method Begin of its own, with the name of the entry
// and what to save instead of key and r. For others the error wraps errors.ErrUnsupported: use
// LockAt, Load, Preflight and Save, one after the other.
func (c *Cache) Begin(ctx context.Context, key Key, r *Record, old Version) (
	v Version, end func(ctx context.Context, r *Record, old Version) (Version, error), unlock func() error, err error) {
	return c.begin(ctx, key, r, old, false)
}

// BeginUnread is Begin with what this process has saved last, and not loaded since. It may be used
// where MayBeginUnread says so. If the store has turned out to be replaced by a copy of itself, the
// error wraps ErrConflict, and a Load tells whether the record is a copy.
func (c *Cache) BeginUnread(ctx context.Context, key Key, r *Record, old Version) (
	v Version, end func(ctx context.Context, r *Record, old Version) (Version, error), unlock func() error, err error) {
	return c.begin(ctx, key, r, old, true)
}

func (c *Cache) begin(ctx context.Context, key Key, r *Record, old Version, unread bool) (
	v Version, end func(ctx context.Context, r *Record, old Version) (Version, error), unlock func() error, err error) {
	store, ok := c.store.(renewer)
	if !ok || old == "" {
		return "", nil, nil, fmt.Errorf("entry %q: a refresh in one step: %w", key.Name(), errors.ErrUnsupported)
	}
	var endBy func(ctx context.Context, data []byte, old Version) (Version, error)
	begin := func(ctx context.Context, name string, data []byte, old Version) (v Version, err error) {
		// The place was asked for to encode r, and may have changed since.
		if unread && c.places.changed.Load() {
			return "", ErrConflict
		}
		if v, endBy, unlock, err = store.Begin(ctx, name, data, old); err != nil || !unread {
			return v, err
		}
		if c.here(ctx); c.places.changed.Load() {
			return "", cmp.Or(unlock(), ErrConflict)
		}
		return v, nil
	}
	if v, err = c.saveTo(ctx, savesBy{c.store, begin}, key, r, old); err != nil {
		return "", nil, nil, err
	}
	ending := savesBy{c.store, func(ctx context.Context, _ string, data []byte, old Version) (Version, error) {
		return endBy(ctx, data, old)
	}}
	end = func(ctx context.Context, r *Record, old Version) (Version, error) {
		return c.saveTo(ctx, ending, key, r, old)
	}
	return v, end, unlock, nil
}

// MayBeginUnread reports whether Begin may be given what the caller has saved last, without a Load
// before it. It may where a Load would notice nothing that Begin does not: there is no KeyWrapper,
// which has a say at each Load, and this process has not seen the store replaced by a copy of itself.
func (c *Cache) MayBeginUnread() bool {
	_, ok := c.store.(renewer)
	return ok && !c.envelops() && !c.places.changed.Load()
}
