package tokencache

import (
	"context"
	"errors"
	"fmt"
)

// A Cache persists Records in a Store, sealed. Its methods are safe for concurrent use. Errors
// wrap ErrNotFound, ErrConflict, ErrCorrupt, ErrUnavailable or ctx.Err(), and hold no secret.
type Cache struct {
	store    Store
	keys     *keySet   // nil if there are none
	envelope *envelope // nil if entries have no data keys of their own
	openOnly bool      // entries get none any more
	places   *places
}

// New returns a Cache on store that seals with keys. The keys may be nil only for
// a store that is Confidential.
func New(store Store, keys KeySource) (*Cache, error) {
	if store == nil {
		return nil, errors.New("tokencache.New: no store")
	}
	if keys != nil {
		return &Cache{store: store, keys: &keySet{source: keys}, places: new(places)}, nil
	}
	if c, ok := store.(Confidential); !ok || !c.Confidential() {
		return nil, fmt.Errorf("tokencache.New: %T does not keep secrets by itself: give New keys, from KeyFile for instance", store)
	}
	return &Cache{store: store, places: new(places)}, nil
}

// NewEnveloped returns a Cache on store that seals each record with a data key of its own.
func NewEnveloped(store Store, e Envelope) (*Cache, error) {
	switch {
	case store == nil:
		return nil, errors.New("tokencache.NewEnveloped: no store")
	case e.Wrapper == nil:
		return nil, errors.New("tokencache.NewEnveloped: no Wrapper")
	case e.OpenOnly && e.Old == nil:
		return nil, errors.New("tokencache.NewEnveloped: OpenOnly needs Old, whose first key seals")
	}
	c := &Cache{store: store, envelope: newEnvelope(e), openOnly: e.OpenOnly, places: new(places)}
	if e.Old != nil {
		c.keys = &keySet{source: e.Old}
	}
	return c, nil
}

// KeyPlace says where the sealing key is kept, according to its KeySource or KeyWrapper: "OS
// keyring", or "key file /home/ann/key". It is empty if that is no fmt.Stringer, or if the
// store is Confidential and entries are not sealed.
func (c *Cache) KeyPlace() string {
	var keeper any
	switch {
	case c.envelops():
		keeper = c.envelope.wrapper
	case c.keys != nil:
		keeper = c.keys.source
	}
	if s, ok := keeper.(fmt.Stringer); ok {
		return s.String()
	}
	return ""
}

// envelops reports whether entries are sealed with data keys of their own.
func (c *Cache) envelops() bool { return c.envelope != nil && !c.openOnly }

// Load returns the record of key. If there is none, the error wraps ErrNotFound. If there is
// one that cannot be read, the error wraps ErrCorrupt, and its Version is returned all the
// same, so that somebody who knows what they are doing can delete it.
func (c *Cache) Load(ctx context.Context, key Key) (*Record, Version, error) {
	name := key.Name()
	plain, v, err := c.load(ctx, name)
	if err != nil {
		return nil, v, err
	}
	r, err := decodeRecord(plain)
	if err != nil {
		return nil, v, fmt.Errorf("entry %q: %w", name, err)
	}
	if r.Key != key {
		return nil, v, fmt.Errorf("entry %q: %w: it holds the record of another key", name, ErrCorrupt)
	}
	r.Key = key // It is equal, and its strings are in memory already.
	if err := c.judge(ctx, r); err != nil {
		return nil, v, fmt.Errorf("entry %q: %w", name, err)
	}
	return r, v, nil
}

// Save stores r as the record of key if the stored one is still at old; otherwise the error
// wraps ErrConflict. The Version "" means that there is no record yet. Save does not modify r,
// and uses key instead of r.Key. If r cannot be saved with the tokens of several targets, see
// Record.Select, it is saved with the selected one alone.
func (c *Cache) Save(ctx context.Context, key Key, r *Record, old Version) (Version, error) {
	return c.saveTo(ctx, c.store, key, r, old)
}

// saveTo is Save by a store that is c.store but for its Save.
func (c *Cache) saveTo(ctx context.Context, store Store, key Key, r *Record, old Version) (Version, error) {
	v, err := c.save(ctx, store, key, r, old, false)
	if err != nil && r.hasOthers() && !errors.Is(err, ErrConflict) && ctx.Err() == nil {
		if v, err := c.save(ctx, store, key, r, old, true); err == nil || errors.Is(err, ErrConflict) {
			return v, err
		}
	}
	return v, err
}

func (c *Cache) save(ctx context.Context, store Store, key Key, r *Record, old Version, lean bool) (Version, error) {
	plain, err := c.encode(ctx, key, r, lean)
	if err != nil {
		return "", err
	}
	name := key.Name()
	var save func() (Version, error)
	switch {
	case c.envelops():
		save = func() (Version, error) { return c.envelope.save(ctx, store, name, plain, old) }
		if old == "" {
			return c.saveNewEnveloped(ctx, name, save)
		}
	case c.keys == nil:
		return store.Save(ctx, name, plain, old)
	default:
		save = func() (Version, error) {
			keys, err := c.keys.current(ctx, old == "" && c.rotates())
			if err != nil {
				return "", err
			}
			data, err := (*keys)[0].seal(name, plain)
			if err != nil {
				return "", err
			}
			return store.Save(ctx, name, data, old)
		}
	}
	if old == "" && c.rotates() {
		return c.saveNew(ctx, save)
	}
	return save()
}

// Delete removes the record of key if it is at old; otherwise the error wraps ErrConflict. A
// missing record is not an error.
func (c *Cache) Delete(ctx context.Context, key Key, old Version) error {
	return c.store.Delete(ctx, key.Name(), old)
}

// Lock waits until it holds the exclusive lock on the record of key, as
// Store.Lock does.
func (c *Cache) Lock(ctx context.Context, key Key) (unlock func() error, err error) {
	return c.store.Lock(ctx, key.Name())
}

// LockAt is Lock, but if the store is a Watcher, the wait ends with an error that wraps
// ErrConflict when the record is no longer at v.
func (c *Cache) LockAt(ctx context.Context, key Key, v Version) (unlock func() error, err error) {
	if w, ok := c.store.(Watcher); ok {
		return w.LockAt(ctx, key.Name(), v)
	}
	return c.Lock(ctx, key)
}

// Preflight reports whether r, or a record up to a quarter longer, could be saved now as the
// record of key, as far as the store can tell: if the store is not a Preflighter, nil says only
// that the sealing key is available.
func (c *Cache) Preflight(ctx context.Context, key Key, r *Record) error {
	err := c.preflight(ctx, key, r, false)
	if err != nil && r.hasOthers() && ctx.Err() == nil && c.preflight(ctx, key, r, true) == nil {
		return nil // as in Save
	}
	return err
}

func (c *Cache) preflight(ctx context.Context, key Key, r *Record, lean bool) error {
	plain, err := c.encode(ctx, key, r, lean)
	if err != nil {
		return err
	}
	// A provider's next answer may be longer than its last, in proportion: a constant would
	// not do, because some keyrings take no more than 2 560 bytes in all.
	size := len(plain) + len(plain)/4
	switch {
	case c.envelops():
		overhead, err := c.envelope.ready(ctx, key.Name())
		if err != nil {
			return err
		}
		size += overhead
	case c.keys != nil:
		if _, err := c.keys.get(ctx, nil); err != nil {
			return err
		}
		size += sealOverhead
	}
	if p, ok := c.store.(Preflighter); ok {
		return p.Preflight(ctx, key.Name(), size)
	}
	return nil
}

// Check returns what a store that is a Checker finds wrong with its settings.
func (c *Cache) Check(ctx context.Context) error {
	if checker, ok := c.store.(Checker); ok {
		return checker.Check(ctx)
	}
	return nil
}

// load returns the plain content of an entry, and its version.
func (c *Cache) load(ctx context.Context, name string) (plain []byte, v Version, err error) {
	for seen := Version(""); ; seen = v {
		var data []byte
		if data, v, err = c.store.Load(ctx, name); err != nil {
			return nil, "", err
		}
		plain, keys, err := c.open(ctx, name, v, data)
		unknown := errors.Is(err, errUnknownKey) || isEnveloped(data) && errors.Is(err, ErrCorrupt)
		if !unknown || v == seen {
			return plain, v, err
		}
		// Another process may have changed the keys since this one got them, and may
		// have sealed the entry anew since it was read.
		if keys != nil {
			if _, err := c.keys.get(ctx, keys); err != nil {
				return nil, v, err
			}
		}
	}
}

// open returns the plain content of version v of an entry. If none of the known keys opens it,
// it returns these keys, and an error that wraps errUnknownKey.
func (c *Cache) open(ctx context.Context, name string, v Version, data []byte) (plain []byte, keys *[]dataKey, err error) {
	_, notSealed := sealedWith(name, data)
	switch {
	case isEnveloped(data) && c.envelope != nil:
		plain, err = c.envelope.open(ctx, name, v, data)
		return plain, nil, err
	case isEnveloped(data):
		return nil, nil, fmt.Errorf("%w: entry %q has a wrapped data key: only a cache made by NewEnveloped opens it", ErrCorrupt, name)
	case c.keys != nil:
		if keys, err = c.keys.get(ctx, nil); err != nil {
			return nil, nil, err
		}
		plain, err = unseal(*keys, name, data)
		return plain, keys, err
	case c.envelope != nil:
		return nil, nil, fmt.Errorf("%w: entry %q is not enveloped: Envelope.Old has to have its key", ErrCorrupt, name)
	case notSealed == nil:
		return nil, nil, fmt.Errorf("%w: entry %q is sealed and this cache has no keys", ErrCorrupt, name)
	}
	return data, nil, nil
}

// encode returns the stored form of r as the record of key, see Record.stored.
func (c *Cache) encode(ctx context.Context, key Key, r *Record, lean bool) ([]byte, error) {
	saved := *r.stored(lean)
	saved.Key, saved.Copy = key, c.placed(ctx, r.Copy)
	return encodeStored(&saved)
}
