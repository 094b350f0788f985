package tokencache

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

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
