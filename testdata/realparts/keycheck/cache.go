package keycheck

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// A Service is what a test does to a key service.
type Service struct {
	Rotate   func() // From now on another key wraps.
	Retire   func() // Nothing unwraps that was wrapped before Rotate.
	Down, Up func()
}

// calls counts what a KeyWrapper is asked.
type calls struct {
	tokencache.KeyWrapper
	wraps, unwraps atomic.Int32
}

func (c *calls) WrapKey(ctx context.Context, key []byte) (tokencache.WrappedKey, error) {
	c.wraps.Add(1)
	return c.KeyWrapper.WrapKey(ctx, key)
}

func (c *calls) UnwrapKey(ctx context.Context, w tokencache.WrappedKey) ([]byte, error) {
	c.unwraps.Add(1)
	return c.KeyWrapper.UnwrapKey(ctx, w)
}

func (c *calls) expect(t *testing.T, what string, wraps, unwraps int32) {
	t.Helper()
	if w, u := c.wraps.Swap(0), c.unwraps.Swap(0); w != wraps || u != unwraps {
		t.Errorf("%s: %d keys were wrapped and %d unwrapped, want %d and %d", what, w, u, wraps, unwraps)
	}
}

// Cache checks what logins cost whose data keys are kept by w, that they outlive the rotation
// of its key, and that an outage takes none of them.
func Cache(t *testing.T, w tokencache.KeyWrapper, service Service, logins int) {
	t.Helper()
	counted := &calls{KeyWrapper: w}
	store := new(tokencache.Memory)
	process := func() *tokencache.Cache {
		c, err := tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: counted})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	key := func(i int) tokencache.Key {
		return tokencache.Key{Issuer: "https://issuer.test", ClientID: "app", Account: fmt.Sprint(i)}
	}
	refresh := func(c *tokencache.Cache) {
		t.Helper()
		for i := range logins {
			r, v, err := c.Load(t.Context(), key(i))
			if errors.Is(err, tokencache.ErrNotFound) {
				r, err = &tokencache.Record{RefreshToken: "secret"}, nil
			}
			if err == nil {
				r.Generation++
				_, err = c.Save(t.Context(), key(i), r, v)
			}
			if err != nil {
				t.Fatalf("login %d: %v", i, err)
			}
		}
	}
	n := int32(logins)
	first := process()
	refresh(first)
	counted.expect(t, "logins", n, 0)
	refresh(first)
	counted.expect(t, "refreshes", 0, 0)
	second := process()
	refresh(second)
	refresh(second)
	counted.expect(t, "refreshes by a new process", 0, n)

	service.Rotate()
	refresh(first)
	if err := second.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	counted.expect(t, "the first Rekey", n+1, 0)
	if err := second.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	counted.expect(t, "another Rekey", 1, 0)
	service.Retire()
	after := process()
	refresh(after)
	counted.expect(t, "refreshes when the old key is gone", 0, n)

	service.Down()
	refresh(after)
	counted.expect(t, "refreshes while the service is down", 0, 0)
	third := process()
	if _, _, err := third.Load(t.Context(), key(0)); !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("a new process loads a login while the service is down: %v", err)
	}
	counted.expect(t, "a load while the service is down", 0, 1)
	refresh(second) // It knows the data keys, but not yet that they were wrapped anew.
	service.Up()
	refresh(third)
}
