package tokencache

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache/internal/failures"
)

// The names of the locks with which processes take turns at changing keys. They are never names
// of entries, which are hashes.
const (
	rekeyLock = "stayauth rekey"
	keysLock  = "stayauth keys"
)

// Rekey replaces the sealing key: it adds a new one, seals every record anew, and then drops
// the old ones. Records stay readable all the time, in this and in other processes, even if
// Rekey is interrupted; calling it again completes the work. It waits for the lock on each
// record. If a record cannot be opened, the error says which, and the old keys are kept. The
// key source must be a KeyRotator and the store a Lister.
//
// With NewEnveloped, Rekey wraps the data key of each record with the newest key of the
// KeyWrapper, which changes nothing else, and envelops records that are not. Records that need
// nothing cost no call, so it can be called again and again. The order is: give every process
// access to a new key, make it the newest, call Rekey, and once that has returned nil at a time
// when no process wraps with an older key any more, destroy that.
func (c *Cache) Rekey(ctx context.Context) error {
	lister, ok := c.store.(Lister)
	if !ok || c.envelope == nil && !c.rotates() {
		return fmt.Errorf("tokencache: Rekey needs a KeyRotator, as KeyFile is, or NewEnveloped, and a store that is a Lister: %w", errors.ErrUnsupported)
	}
	unlock, err := c.store.Lock(ctx, rekeyLock)
	if err != nil {
		return err
	}
	defer unlock()

	anew, err := c.newest(ctx)
	if err != nil {
		return err
	}
	// A listing made while files are being replaced may miss one, so the old keys are
	// dropped only when a whole pass has found nothing left to do.
	for changed := true; changed; {
		if changed, err = c.resealAll(ctx, lister.List(ctx, ""), anew); err != nil {
			return fmt.Errorf("the old keys are kept: %w", err)
		}
	}
	if c.envelops() {
		return nil
	}
	if rotator, ok := c.keys.source.(KeyRotator); ok {
		if err := rotator.DropOldKeys(ctx); err != nil {
			return keyError(err)
		}
		_, err = c.keys.fresh(ctx)
	}
	return err
}

// rotates reports whether another process may change the keys.
func (c *Cache) rotates() bool {
	if c.keys == nil || c.envelops() {
		return false
	}
	_, ok := c.keys.source.(KeyRotator)
	return ok
}

// A renewal seals entries with the newest key.
type renewal struct {
	has  func(name string, data []byte) (bool, error) // reports whether an entry is already
	make func(ctx context.Context, name string, v Version, data []byte) ([]byte, error)
}

// newest finds the newest key, or puts a new one before the others. When it returns, no process
// saves a new entry with an older one any more.
func (c *Cache) newest(ctx context.Context) (anew renewal, err error) {
	unlock, err := c.store.Lock(ctx, keysLock)
	if err != nil {
		return anew, err
	}
	defer unlock()
	if c.envelops() {
		_, err := c.envelope.wrapNew(ctx)
		return c.envelopAnew(), err
	}
	if rotator, ok := c.keys.source.(KeyRotator); ok {
		if err := rotator.AddKey(ctx); err != nil {
			return anew, keyError(err)
		}
	}
	keys, err := c.keys.fresh(ctx)
	if err != nil {
		return anew, err
	}
	return c.sealAnew((*keys)[0]), nil
}

// sealAnew seals entries with k.
func (c *Cache) sealAnew(k dataKey) renewal {
	return renewal{
		has: func(name string, data []byte) (bool, error) {
			if c.envelope != nil && isEnveloped(data) {
				return false, nil
			}
			id, err := sealedWith(name, data)
			return id == k.id, err
		},
		make: func(ctx context.Context, name string, v Version, data []byte) ([]byte, error) {
			plain, _, err := c.open(ctx, name, v, data)
			if err != nil {
				return nil, err
			}
			return k.seal(name, plain)
		},
	}
}

// envelopAnew wraps the data keys of entries with the newest key, and gives one to those that
// have none of their own.
func (c *Cache) envelopAnew() renewal {
	return renewal{
		has: func(name string, data []byte) (bool, error) {
			if !isEnveloped(data) {
				return false, nil
			}
			return c.envelope.isNewest(name, data)
		},
		make: func(ctx context.Context, name string, v Version, data []byte) ([]byte, error) {
			if isEnveloped(data) {
				return c.envelope.rewrap(ctx, name, data)
			}
			plain, _, err := c.open(ctx, name, v, data)
			if err != nil {
				return nil, err
			}
			k, err := c.envelope.wrapNew(ctx)
			if err != nil {
				return nil, err
			}
			return k.seal(name, plain)
		},
	}
}

// saveNew calls save, for an entry that is not there yet. A process that does not know about a new key
// may go on replacing entries with an old one, because that fails with ErrConflict once Rekey
// has sealed them anew. Only a new entry could slip past Rekey, so it is sealed with keys that
// are certain to be current.
func (c *Cache) saveNew(ctx context.Context, save func() (Version, error)) (Version, error) {
	unlock, err := c.store.Lock(ctx, keysLock)
	if err != nil {
		return "", err
	}
	defer unlock()
	return save()
}

// saveNewEnveloped is saveNew, but it does not wait for ever: if many log in at once, or the
// process that has the lock is frozen, it saves without the lock, and makes up for what Rekey
// may have missed.
func (c *Cache) saveNewEnveloped(ctx context.Context, name string, save func() (Version, error)) (Version, error) {
	brief, cancel := context.WithTimeout(ctx, newLockTime)
	unlock, lockErr := c.store.Lock(brief, keysLock)
	cancel()
	if lockErr == nil {
		defer unlock()
	} else if ctx.Err() != nil {
		return "", lockErr
	}
	v, err := save()
	if err == nil && lockErr != nil {
		v = c.catchUp(ctx, name, v)
	}
	return v, err
}

const newLockTime = time.Second

// catchUp wraps the data key of version v of an entry anew if a newer key has appeared since it
// was wrapped, and returns the version that is there then.
func (c *Cache) catchUp(ctx context.Context, name string, v Version) Version {
	if _, err := c.envelope.wrapNew(ctx); err != nil {
		return v
	}
	data, at, err := c.store.Load(ctx, name)
	if err != nil || at != v {
		return v
	}
	if has, err := c.envelope.isNewest(name, data); has || err != nil {
		return v
	}
	if data, err = c.envelope.rewrap(ctx, name, data); err != nil {
		return v
	}
	if at, err = c.store.Save(ctx, name, data, v); err != nil {
		return v
	}
	return at
}

// resealAtOnce is how many entries are sealed anew at a time: a key service may be far away.
const resealAtOnce = 16

// resealAll seals the entries that are named anew where that is necessary. Those that cannot be
// opened do not keep it from going on; a store or a key service that is down does.
func (c *Cache) resealAll(ctx context.Context, names iter.Seq2[string, error], anew renewal) (changed bool, err error) {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed failures.Some
		down   bool
	)
	turns := make(chan struct{}, resealAtOnce)
	for name, err := range names {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			did := false
			if err == nil {
				did, err = c.reseal(ctx, name, anew)
			}
			mu.Lock()
			defer mu.Unlock()
			changed = changed || did
			failed.Add(err)
			down = down || errors.Is(err, ErrUnavailable) || ctx.Err() != nil
		})
		mu.Lock()
		stop := down
		mu.Unlock()
		if stop {
			break
		}
	}
	wg.Wait()
	return changed, failed.Err()
}

// reseal seals an entry anew unless it is sealed with the newest key.
func (c *Cache) reseal(ctx context.Context, name string, anew renewal) (changed bool, err error) {
	if data, _, err := c.store.Load(ctx, name); err == nil {
		if has, err := anew.has(name, data); has && err == nil {
			return false, nil // It stays so: that takes no lock.
		}
	}
	unlock, err := c.store.Lock(ctx, name)
	if err != nil {
		return false, err
	}
	defer unlock()
	for {
		data, v, err := c.store.Load(ctx, name)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if has, err := anew.has(name, data); err != nil || has {
			return false, err
		}
		if data, err = anew.make(ctx, name, v, data); err != nil {
			return false, err
		}
		if _, err = c.store.Save(ctx, name, data, v); !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
	}
}
