package tokencache

import (
	"context"
	"errors"
	"fmt"
)

// Begin begins a refresh of the record of key: it takes the lock, and saves r, the journal, if the
// stored record is still at old, and as far as is known where it was when r was loaded; otherwise
// the error wraps ErrConflict, and a Load tells what is there. end saves what came of the refresh, and releases the
// lock if that succeeds. Call unlock in any case.
//
// Only a store that can do this at once has a method Begin of its own, with the name of the entry
// and what to save instead of key and r, and with the id of its place. For others the error wraps
// errors.ErrUnsupported: use LockAt, Load, Preflight and Save, one after the other.
func (c *Cache) Begin(ctx context.Context, key Key, r *Record, old Version) (
	v Version, end func(ctx context.Context, r *Record, old Version) (Version, error), unlock func() error, err error) {
	store, ok := c.store.(renewer)
	if !ok || old == "" {
		return "", nil, nil, fmt.Errorf("entry %q: a refresh in one step: %w", key.Name(), errors.ErrUnsupported)
	}
	var endBy func(ctx context.Context, data []byte, old Version) (Version, error)
	begin := func(ctx context.Context, name string, data []byte, old Version) (v Version, err error) {
		if here := c.where(ctx).store.id; here != "" && here != r.place {
			return "", ErrConflict // The data says that it is saved here, which may be elsewhere.
		}
		v, endBy, unlock, err = store.Begin(ctx, name, data, old, r.place)
		return v, err
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

// MayBeginUnread reports whether Begin may be given r, or what comes of it, if the caller has saved
// that last, without a Load before it. It may where a Load would notice nothing that Begin does not:
// there is no KeyWrapper, which has a say at each Load, and either it is known where the login was
// when it was last loaded, or nothing tells the store from its copies now; if that changes, Begin
// fails with ErrConflict.
func (c *Cache) MayBeginUnread(r *Record) bool {
	if _, ok := c.store.(renewer); !ok || c.envelops() {
		return false
	}
	_, placer := c.store.(Placer)
	known := c.places.known.Load()
	return !placer || r.place != "" || known != nil && known.store.id == ""
}
