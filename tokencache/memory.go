package tokencache

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache/gate"
)

// Memory is a Store that lasts as long as the process: for tests, and for programs that log in
// each time they start. The zero value is an empty store, ready to use. It is Confidential, so
// a Cache needs no keys for it. A Memory must not be copied.
type Memory struct {
	mu      sync.Mutex
	entries map[string]memoryEntry
	saves   uint64
	locks   gate.Gates
}

type memoryEntry struct {
	data    hidden[[]byte]
	version Version
	saved   time.Time
}

// Load implements Store.
func (m *Memory) Load(ctx context.Context, name string) ([]byte, Version, error) {
	if err := checkName(ctx, name); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[name]
	if !ok {
		return nil, "", fmt.Errorf("entry %q: %w", name, ErrNotFound)
	}
	return bytes.Clone(e.data()), e.version, nil
}

// Save implements Store.
func (m *Memory) Save(ctx context.Context, name string, data []byte, old Version) (Version, error) {
	if err := checkName(ctx, name); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries[name].version != old {
		return "", fmt.Errorf("entry %q: %w", name, ErrConflict)
	}
	if m.entries == nil {
		m.entries = make(map[string]memoryEntry)
	}
	m.saves++ // never used twice, so the version of a deleted entry does not come back
	v := Version(strconv.FormatUint(m.saves, 10))
	m.entries[name] = memoryEntry{data: hide(bytes.Clone(data)), version: v, saved: time.Now().Round(0)}
	return v, nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, name string, old Version) error {
	if err := checkName(ctx, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.entries[name].version; v != "" && v != old {
		return fmt.Errorf("entry %q: %w", name, ErrConflict)
	}
	delete(m.entries, name)
	return nil
}

// Lock implements Store.
func (m *Memory) Lock(ctx context.Context, name string) (unlock func() error, err error) {
	if err := checkName(ctx, name); err != nil {
		return nil, err
	}
	leave, err := m.locks.Enter(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("waiting for the lock on entry %q: %w", name, err)
	}
	return func() error { leave(); return nil }, nil
}

// List implements Lister.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		m.mu.Lock()
		names := make([]string, 0, len(m.entries))
		for name := range m.entries {
			if extends(name, prefix) {
				names = append(names, name)
			}
		}
		m.mu.Unlock()
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

// ListIdle implements IdleLister: the longest idle first.
func (m *Memory) ListIdle(ctx context.Context, before time.Time) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		saved := map[string]time.Time{}
		m.mu.Lock()
		for name, e := range m.entries {
			if idle(e.saved, before) {
				saved[name] = e.saved
			}
		}
		m.mu.Unlock()
		names := slices.SortedFunc(maps.Keys(saved), func(a, b string) int { return saved[a].Compare(saved[b]) })
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

// Confidential reports true: the memory of a process is its own.
func (m *Memory) Confidential() bool { return true }

// checkName returns an error if ctx is done or if name cannot be one of an entry.
func checkName(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("entry %q: %w", name, err)
	}
	if len(name) < 1 || len(name) > 128 {
		return fmt.Errorf("the name of an entry has %d bytes, want 1 to 128", len(name))
	}
	return nil
}
