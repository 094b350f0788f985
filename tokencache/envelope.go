package tokencache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache/gate"
	"github.com/stayauth/stayauth/tokencache/internal/guard"
	"github.com/stayauth/stayauth/tokencache/internal/lru"
)

// An Envelope says how records are sealed with data keys that a KeyWrapper protects, see
// NewEnveloped. Each record has a data key of its own. It is made and wrapped when the record
// is first saved, stored beside the record, and unwrapped when a process first loads that;
// later loads and saves cost no call. If the KeyWrapper is unavailable, records whose data key
// a process knows go on; others wait, with ErrUnavailable, and nothing is lost. A KeyWrapper
// that is down is asked every few seconds, however many records there are. What reads all
// records, as Cache.List does, asks it for each that is not known.
//
// Tenants whose keys are to be destroyed separately each have a KeyWrapper of their own, and so
// a Cache and a Store of their own: a table or a directory.
type Envelope struct {
	Wrapper KeyWrapper // Required.

	// Old has the keys of records that are not enveloped yet. They are opened with it, and
	// enveloped when they are next saved, or by Cache.Rekey.
	Old KeySource

	// OpenOnly says that records are still, or again, sealed with the first key of Old: until
	// every process can open enveloped ones, and on the way back.
	OpenOnly bool

	// MaxAge is how long a data key opens records after the KeyWrapper has returned it: no
	// longer does a process read logins after access to the key was taken from it. In the
	// second half of this time the key is unwrapped again if possible, so an outage may last
	// half as long at least. Default: 24 hours.
	MaxAge time.Duration

	// MaxKeys is how many data keys are kept in memory, of some 500 bytes each. It should be
	// more than there are logins in use. Default: 100 000.
	MaxKeys int
}

// The bounds of calls to a KeyWrapper. They have to leave time within the 10 seconds that
// package transport allows for a load or save.
const (
	wrapTime    = 5 * time.Second
	confirmTime = time.Second // if an earlier answer will do
)

// An envelope is an Envelope in use.
type envelope struct {
	wrapper KeyWrapper
	maxAge  time.Duration
	calls   guard.Guard
	gates   gate.Gates // one caller unwraps a key, others wait for it
	known   lru.Map[string, ownKey]
	newest  atomic.Pointer[string] // the KeyID of what was wrapped last
}

// An ownKey is the data key of one entry.
type ownKey struct {
	dataKey
	wrapped WrappedKey
	version Version   // of the entry that has this wrapped key
	since   time.Time // when the KeyWrapper last returned the data key
}

func newEnvelope(e Envelope) *envelope {
	in := &envelope{wrapper: e.Wrapper, maxAge: e.MaxAge}
	if in.maxAge <= 0 {
		in.maxAge = 24 * time.Hour
	}
	if in.known.Max = e.MaxKeys; in.known.Max <= 0 {
		in.known.Max = 100_000
	}
	in.known.Old = func(k ownKey) bool { return time.Since(k.since) > in.maxAge }
	return in
}

// open returns the plain content of version v of an entry that isEnveloped.
func (e *envelope) open(ctx context.Context, name string, v Version, data []byte) ([]byte, error) {
	k, sealed, err := e.key(ctx, name, v, data)
	if err != nil {
		return nil, err
	}
	plain, err := unseal([]dataKey{k.dataKey}, name, sealed)
	if err == nil {
		k.version = v
		e.known.Put(name, k)
	}
	return plain, err
}

// key returns the data key of version v of an entry that isEnveloped, and its sealed part. It asks
// the KeyWrapper unless the key is known, and remembers the key unless v is empty.
func (e *envelope) key(ctx context.Context, name string, v Version, data []byte) (k ownKey, sealed []byte, err error) {
	wrapped, sealed, id, err := openEnvelope(name, data)
	if err != nil {
		return k, nil, err
	}
	if k, ok, sure := e.recall(name, id, wrapped); ok && sure {
		return k, sealed, nil
	}
	leave, err := e.gates.Enter(ctx, name)
	if err != nil {
		return k, nil, fmt.Errorf("waiting for the data key of entry %q: %w", name, err)
	}
	defer leave()
	k, ok, sure := e.recall(name, id, wrapped)
	if ok && sure {
		return k, sealed, nil
	}
	timeout := wrapTime
	if ok {
		timeout = confirmTime
	}
	fresh, err := e.unwrap(ctx, timeout, wrapped)
	switch {
	case err == nil && fresh.id == id:
		if v != "" {
			fresh.version = v
			e.known.Put(name, fresh) // before those who wait for it go on
		}
		return fresh, sealed, nil
	case err == nil:
		err = fmt.Errorf("%w: the wrapped data key is that of another entry", ErrCorrupt)
	case ok && !errors.Is(err, ErrCorrupt):
		return k, sealed, nil
	}
	e.known.Delete(name)
	return k, nil, fmt.Errorf("entry %q: %w", name, err)
}

// recall returns the data key of an entry if it is known and has the given id. It is not sure
// if the time has come to ask again, or if the wrapped key is another than it was: it was
// wrapped anew, or damaged.
func (e *envelope) recall(name, id string, wrapped WrappedKey) (k ownKey, ok, sure bool) {
	k, ok = e.known.Get(name)
	age := time.Since(k.since)
	sure = age < e.maxAge/2 && k.wrapped.KeyID == wrapped.KeyID && bytes.Equal(k.wrapped.Data, wrapped.Data)
	k.wrapped = wrapped
	return k, ok && k.id == id && age < e.maxAge, sure
}

// unwrap asks the KeyWrapper for a data key.
func (e *envelope) unwrap(ctx context.Context, timeout time.Duration, wrapped WrappedKey) (k ownKey, err error) {
	k = ownKey{wrapped: wrapped, since: time.Now()}
	err = e.call(ctx, timeout, wrapped.KeyID, func(ctx context.Context) error {
		secret, err := e.wrapper.UnwrapKey(ctx, wrapped)
		if err != nil {
			return err
		}
		if k.dataKey, err = newDataKey(secret); err != nil {
			return fmt.Errorf("%w: the unwrapped data key: %w", ErrCorrupt, err)
		}
		return nil
	})
	return k, err
}

// wrapNew makes a data key.
func (e *envelope) wrapNew(ctx context.Context) (ownKey, error) {
	secret := make([]byte, keySize)
	rand.Read(secret)
	k, err := newDataKey(secret)
	if err != nil {
		return ownKey{}, err
	}
	return e.wrap(ctx, k)
}

// wrap wraps a data key with the newest key.
func (e *envelope) wrap(ctx context.Context, k dataKey) (own ownKey, err error) {
	own = ownKey{dataKey: k, since: time.Now()}
	err = e.call(ctx, wrapTime, "", func(ctx context.Context) error {
		if own.wrapped, err = e.wrapper.WrapKey(ctx, k.secret()); err != nil {
			return err
		}
		return own.wrapped.check()
	})
	if err == nil {
		e.newest.Store(&own.wrapped.KeyID)
	}
	return own, err
}

// call calls the KeyWrapper. What is wrapped with the same key shares its fate.
func (e *envelope) call(ctx context.Context, timeout time.Duration, keyID string, call func(context.Context) error) error {
	err := e.calls.Do(ctx, timeout, keyID, call, func(err error) bool { return !errors.Is(err, ErrCorrupt) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for the key service: %w", ctx.Err())
	}
	return keyError(err)
}

// save seals an entry and stores it in place of old. In a refresh, which loads the entry first,
// the KeyWrapper has no say.
func (e *envelope) save(ctx context.Context, store Store, name string, plain []byte, old Version) (Version, error) {
	k, ok, err := e.keyAt(ctx, store, name, old)
	if err == nil && !ok {
		k, err = e.wrapNew(ctx)
	}
	if err != nil {
		return "", err
	}
	data, err := k.seal(name, plain)
	if err != nil {
		return "", err
	}
	v, err := store.Save(ctx, name, data, old)
	if err == nil {
		k.version = v
		e.known.Put(name, k)
	}
	return v, err
}

// keyAt returns the data key of version v of an entry, if it is known. The wrapped key has to
// be that of this very version, because an older one may be wrapped with a key that is about to
// be destroyed.
func (e *envelope) keyAt(ctx context.Context, store Store, name string, v Version) (k ownKey, ok bool, err error) {
	k, ok = e.known.Get(name)
	if !ok || v == "" || k.version == v {
		return k, ok && v != "", nil
	}
	data, at, err := store.Load(ctx, name) // Another goroutine has loaded another version.
	switch {
	case errors.Is(err, ErrNotFound), err == nil && at != v:
		return k, false, fmt.Errorf("entry %q: %w", name, ErrConflict)
	case err != nil:
		return k, false, err
	case !isEnveloped(data):
		return k, false, nil
	}
	wrapped, _, id, err := openEnvelope(name, data)
	k.wrapped, k.version = wrapped, v
	return k, err == nil && id == k.id, nil // What cannot be read is replaced all the same.
}

// seal returns what is stored.
func (k ownKey) seal(name string, plain []byte) ([]byte, error) {
	sealed, err := k.dataKey.seal(name, plain)
	if err != nil {
		return nil, err
	}
	return envelop(k.wrapped, sealed), nil
}

// ready makes sure that an entry can be sealed, and returns by how much that makes it longer.
func (e *envelope) ready(ctx context.Context, name string) (overhead int, err error) {
	k, ok := e.known.Get(name)
	if !ok {
		k, err = e.wrapNew(ctx)
	}
	return envelopeSize(k.wrapped) + sealOverhead, err
}

// isNewest reports whether the data key of an entry that isEnveloped is wrapped with the newest
// key.
func (e *envelope) isNewest(name string, data []byte) (bool, error) {
	wrapped, _, _, err := openEnvelope(name, data)
	return wrapped.KeyID == *e.newest.Load(), err
}

// rewrap wraps the data key of an entry that isEnveloped with the newest key, and does not open
// the entry.
func (e *envelope) rewrap(ctx context.Context, name string, data []byte) ([]byte, error) {
	k, sealed, err := e.key(ctx, name, "", data)
	if err != nil {
		return nil, err
	}
	if k, err = e.wrap(ctx, k.dataKey); err != nil {
		return nil, fmt.Errorf("entry %q: %w", name, err)
	}
	return envelop(k.wrapped, sealed), nil
}
