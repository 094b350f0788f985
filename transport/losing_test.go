package transport_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/gate"
)

// A losing store remembers what was deleted, and can lose what was not, and who has locked
// what.
type losing struct {
	tokencache.Memory
	slow   time.Duration // how long a call takes at most
	only   atomic.Bool   // reads
	saves  atomic.Int32
	mu     sync.Mutex
	traces map[string]bool
	locks  *gate.Gates
}

func (f *losing) pause() {
	if f.slow > 0 {
		time.Sleep(rand.N(f.slow))
	}
}

func (f *losing) Lock(ctx context.Context, name string) (func() error, error) {
	f.pause()
	if f.only.Load() {
		return nil, tokencache.ErrUnavailable
	}
	for {
		f.mu.Lock()
		if f.locks == nil {
			f.locks = new(gate.Gates)
		}
		locks := f.locks
		f.mu.Unlock()
		brief, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
		leave, err := locks.Enter(brief, name)
		cancel()
		if err == nil {
			return func() error { leave(); return nil }, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (f *losing) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	f.pause()
	return f.look(ctx, name)
}

func (f *losing) look(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, v, err := f.Memory.Load(ctx, name)
	if errors.Is(err, tokencache.ErrNotFound) && !f.traces[name] {
		err = tokencache.ErrNoTrace
	}
	return data, v, err
}

func (f *losing) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	f.pause()
	if f.only.Load() {
		return "", tokencache.ErrUnavailable
	}
	f.saves.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.Memory.Save(ctx, name, data, old)
	if err == nil && old == "" {
		delete(f.traces, name)
	}
	return v, err
}

func (f *losing) Delete(ctx context.Context, name string, old tokencache.Version) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.Memory.Delete(ctx, name, old); err != nil {
		return err
	}
	if f.traces == nil {
		f.traces = map[string]bool{}
	}
	f.traces[name] = true
	return nil
}

// flush loses everything.
func (f *losing) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.List(context.Background(), "") {
		if _, v, err := f.Memory.Load(context.Background(), name); err == nil {
			f.Memory.Delete(context.Background(), name, v)
		}
	}
	f.traces, f.locks = nil, nil
}
