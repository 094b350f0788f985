package tokencache

import (
	"context"
	"errors"
	"fmt"
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
func (c *Cache) Rekey(ctx context.Context) error {
	lister, ok := c.store.(Lister)
	if !ok || !c.rotates() {
		return fmt.Errorf("tokencache: Rekey needs a KeyRotator, as KeyFile is, and a store that is a Lister: %w", errors.ErrUnsupported)
	}
	rotator := c.keys.source.(KeyRotator)
	unlock, err := c.store.Lock(ctx, rekeyLock)
	if err != nil {
		return err
	}
	defer unlock()

	keys, err := c.addKey(ctx, rotator)
	if err != nil {
		return err
	}
	// A listing made while files are being replaced may miss one, so the old keys are
	// dropped only when a whole pass has found nothing left to do.
	for done := false; !done; {
		var failed []error
		done = true
		for name, err := range lister.List(ctx) {
			if err == nil {
				var changed bool
				changed, err = c.reseal(ctx, name, keys)
				done = done && !changed
			}
			if err != nil {
				failed = append(failed, err)
			}
		}
		if err := errors.Join(failed...); err != nil {
			return fmt.Errorf("the old keys are kept: %w", err)
		}
	}
	if err := rotator.DropOldKeys(ctx); err != nil {
		return keyError(err)
	}
	_, err = c.keys.fresh(ctx)
	return err
}

// rotates reports whether another process may change the keys.
func (c *Cache) rotates() bool {
	if c.keys == nil {
		return false
	}
	_, ok := c.keys.source.(KeyRotator)
	return ok
}

// addKey puts a new key before the others. When it returns, no process saves a new entry with
// an older one any more.
func (c *Cache) addKey(ctx context.Context, rotator KeyRotator) (*[]dataKey, error) {
	unlock, err := c.store.Lock(ctx, keysLock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := rotator.AddKey(ctx); err != nil {
		return nil, keyError(err)
	}
	return c.keys.fresh(ctx)
}

// saveNew saves an entry that is not there yet. A process that does not know about a new key
// may go on replacing entries with an old one, because that fails with ErrConflict once Rekey
// has sealed them anew. Only a new entry could slip past Rekey, so it is sealed with keys that
// are certain to be current.
func (c *Cache) saveNew(ctx context.Context, save func(*[]dataKey) (Version, error)) (Version, error) {
	unlock, err := c.store.Lock(ctx, keysLock)
	if err != nil {
		return "", err
	}
	defer unlock()
	keys, err := c.keys.fresh(ctx)
	if err != nil {
		return "", err
	}
	return save(keys)
}

// reseal seals an entry with the first of keys, unless it is already sealed with that.
func (c *Cache) reseal(ctx context.Context, name string, keys *[]dataKey) (changed bool, err error) {
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
		id, err := sealedWith(name, data)
		if err != nil || id == (*keys)[0].id {
			return false, err
		}
		plain, err := unseal(*keys, name, data)
		if err != nil {
			return false, err
		}
		data, err = seal(keys, name, plain)
		if err != nil {
			return false, err
		}
		if _, err = c.store.Save(ctx, name, data, v); !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
	}
}
