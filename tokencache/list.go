package tokencache

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"
)

// List returns the records in any order. A record that cannot be read yields an error instead,
// and the others follow. The store must be a Lister.
func (c *Cache) List(ctx context.Context) iter.Seq2[*Record, error] { return c.list(ctx, "") }

// Labeled returns the records of key's account that have a label, see Key.WithLabel, in any
// order. It opens no others. A record that cannot be read yields an error instead, and the
// others follow. The store must be a Lister.
func (c *Cache) Labeled(ctx context.Context, key Key) iter.Seq2[*Record, error] {
	return c.list(ctx, key.Name()+labelSeparator)
}

// list returns the records whose names begin with prefix.
func (c *Cache) list(ctx context.Context, prefix string) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		lister, ok := c.store.(Lister)
		if !ok {
			yield(nil, fmt.Errorf("%T cannot list its entries: %w", c.store, errors.ErrUnsupported))
			return
		}
		c.loadAll(ctx, lister.List(ctx, prefix), yield)
	}
}

// Idle returns the records that were not renewed since a time, as far as the store knows the
// longest idle first. It opens only those whose Key.Name is wanted, all of them if wanted is
// nil. If the store is an IdleLister, Idle opens few others; if it is only a Lister, it opens
// all that are wanted. A record that cannot be read yields an error instead, and the others
// follow.
//
// A record that another process renews meanwhile may be returned as it was. One that claims to
// have been renewed in the future, because a clock was wrong, is returned too.
func (c *Cache) Idle(ctx context.Context, before time.Time, wanted func(name string) bool) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		var names iter.Seq2[string, error]
		switch store := c.store.(type) {
		case IdleLister:
			names = store.ListIdle(ctx, before)
		case Lister:
			names = store.List(ctx, "")
		default:
			yield(nil, fmt.Errorf("%T cannot list its entries: %w", c.store, errors.ErrUnsupported))
			return
		}
		if wanted != nil {
			names = only(names, wanted)
		}
		c.loadAll(ctx, names, func(r *Record, err error) bool {
			return err == nil && !idle(r.RenewedAt(), before) || yield(r, err)
		})
	}
}

// wrongClock is how far in the future a time may be. A later one is the trace of a clock that
// was wrong, and must not hide a login until that time has come.
const wrongClock = time.Hour

// idle reports whether an entry that was last saved at a time was not saved since before.
func idle(saved, before time.Time) bool {
	return saved.Before(before) || time.Until(saved) > wrongClock
}

// Interrupted returns the records whose refresh was interrupted by the death of its process, so
// that another one can make up for it while the provider still accepts the refresh token again.
// A record that cannot be read yields an error instead. The store must be a Recoverer;
// otherwise the error wraps errors.ErrUnsupported. Entries that a dead process had locked, but
// not begun to refresh, or begun long ago, are unlocked.
func (c *Cache) Interrupted(ctx context.Context) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		recoverer, ok := c.store.(Recoverer)
		if !ok {
			yield(nil, fmt.Errorf("%T does not know which locks the dead have left: %w", c.store, errors.ErrUnsupported))
			return
		}
		var forgetting sync.WaitGroup // It must not keep the others waiting.
		defer forgetting.Wait()
		for name, err := range recoverer.Interrupted(ctx) {
			var r *Record
			if err == nil {
				r, err = c.loadNamed(ctx, name)
			}
			if errors.Is(err, ErrNotFound) || err == nil && (r.Attempt == nil || time.Since(r.Attempt.At) > longInterrupted) {
				forgetting.Go(func() { c.forgetLock(ctx, name) })
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// longInterrupted is longer than the grace of any provider that accepts a spent refresh token
// for a limited time, and than any service with work to do is down.
const longInterrupted = time.Hour

// forgetLock releases a lock that a dead process has left, unless another one has it by now. If
// that fails, the store will name it again.
func (c *Cache) forgetLock(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if unlock, err := c.store.Lock(ctx, name); err == nil {
		unlock()
	}
}

// Wanted returns the names (Key.Name) of the entries that the store has lost and that somebody
// wants, see LossTracker. The store must be one; otherwise the error wraps
// errors.ErrUnsupported.
func (c *Cache) Wanted(ctx context.Context) iter.Seq2[string, error] {
	if tracker, ok := c.store.(LossTracker); ok {
		return tracker.Wanted(ctx)
	}
	return func(yield func(string, error) bool) {
		yield("", fmt.Errorf("%T does not know what it has lost: %w", c.store, errors.ErrUnsupported))
	}
}

// extends reports whether a name begins with prefix and is longer, see Lister.
func extends(name, prefix string) bool {
	return len(name) > len(prefix) && strings.HasPrefix(name, prefix)
}

// only returns the names that are wanted, and the errors.
func only(names iter.Seq2[string, error], wanted func(name string) bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for name, err := range names {
			if (err != nil || wanted(name)) && !yield(name, err) {
				return
			}
		}
	}
}

// loadAll loads the records of the entries that are named.
func (c *Cache) loadAll(ctx context.Context, names iter.Seq2[string, error], yield func(*Record, error) bool) {
	apart := adoptionsKey.Name()
	for name, err := range names {
		if name == apart {
			continue // It is no login.
		}
		var r *Record
		if err == nil {
			if r, err = c.loadNamed(ctx, name); errors.Is(err, ErrNotFound) {
				continue // deleted meanwhile
			}
		}
		if !yield(r, err) {
			return
		}
	}
}

// loadNamed loads the record of an entry whose Key is known only to the record.
func (c *Cache) loadNamed(ctx context.Context, name string) (*Record, error) {
	plain, _, err := c.load(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord(plain)
	if err == nil && r.Key.Name() != name {
		err = fmt.Errorf("%w: it holds the record of another key", ErrCorrupt)
	}
	if err == nil {
		err = c.judge(ctx, r)
	}
	if err != nil {
		return nil, fmt.Errorf("entry %q: %w", name, err)
	}
	return r, nil
}
