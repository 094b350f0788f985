package tokencache

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A deadLocks is a store with locks that the dead have left.
type deadLocks struct {
	*Memory
	mu   *sync.Mutex
	left map[string]bool
}

func (d deadLocks) Interrupted(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		d.mu.Lock()
		names := slices.Sorted(maps.Keys(d.left))
		d.mu.Unlock()
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
		yield("", ErrUnavailable)
	}
}

func (d deadLocks) Lock(ctx context.Context, name string) (func() error, error) {
	unlock, err := d.Memory.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.left, name)
		return unlock()
	}, nil
}

// Whoever makes up for the dead is told what they had under way, and of nothing else.
// The other locks that they have left are released.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := deadLocks{new(Memory), new(sync.Mutex), map[string]bool{}}
		cache, err := New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		key := func(account string) Key { return Key{Issuer: "i", ClientID: "c", Account: account} }
		for account, note := range map[string]*Attempt{
			"under way": {At: time.Now().Add(-time.Minute)}, "long ago": {At: time.Now().Add(-2 * time.Hour)},
			"before it began": nil, "somebody else is there": nil,
		} {
			if _, err := cache.Save(t.Context(), key(account), &Record{RefreshToken: "rt", Attempt: note}, ""); err != nil {
				t.Fatal(err)
			}
			store.left[key(account).Name()] = true
		}
		store.left[key("logged out meanwhile").Name()] = true
		if _, err := store.Save(t.Context(), "unreadable", []byte("?"), ""); err != nil {
			t.Fatal(err)
		}
		store.left["unreadable"] = true
		unlock, err := cache.Lock(t.Context(), key("somebody else is there"))
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		var corrupt, unavailable int
		for rec, err := range cache.Interrupted(t.Context()) {
			switch {
			case errors.Is(err, ErrCorrupt):
				corrupt++
			case errors.Is(err, ErrUnavailable):
				unavailable++
			case err != nil:
				t.Error(err)
			default:
				told = append(told, rec.Key.Account)
			}
		}
		if !slices.Equal(told, []string{"under way"}) || corrupt != 1 || unavailable != 1 {
			t.Errorf("told of %q, of %d damaged records, and %d times of a store that is down", told, corrupt, unavailable)
		}
		want := map[string]bool{key("under way").Name(): true, key("somebody else is there").Name(): true, "unreadable": true}
		if !maps.Equal(store.left, want) {
			t.Errorf("%d locks are left, want those of who was under way, of somebody else, and of what cannot be read", len(store.left))
		}
		unlock()
		for range cache.Interrupted(t.Context()) {
			break // must not go on
		}

		cache, err = New(store.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range cache.Interrupted(t.Context()) {
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("of a store that does not know: %v", err)
			}
		}
	})
}
