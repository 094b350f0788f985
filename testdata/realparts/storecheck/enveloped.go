package storecheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/publickey"
)

// Enveloped moves a store of sealed records to data keys of their own, replaces the key that
// wraps those, and moves back, each time while others refresh the logins. In between it finds
// out that the key which was replaced is needed no more.
func Enveloped(t *testing.T, s Store) {
	ctx := t.Context()
	keys := tokencache.KeyBytes(bytes.Repeat([]byte("k"), 32))
	private := newPrivateKey(t)
	older := func() *tokencache.Cache {
		return enveloped(t, s, tokencache.Envelope{Wrapper: wrapper(t, private), Old: keys, OpenOnly: true})
	}
	for i := range 40 {
		if _, err := older().Save(ctx, user(i), &tokencache.Record{RefreshToken: "secret"}, ""); err != nil {
			t.Fatal(err)
		}
	}
	newer := newPrivateKey(t)
	for _, step := range []struct {
		of   string
		with func() *tokencache.Cache // does it, beside users who do too
		then func() *tokencache.Cache // opens everything afterwards
	}{
		{"move to envelopes", func() *tokencache.Cache {
			return enveloped(t, s, tokencache.Envelope{Wrapper: wrapper(t, private), Old: keys})
		}, func() *tokencache.Cache {
			return enveloped(t, s, tokencache.Envelope{Wrapper: wrapper(t, private)})
		}},
		{"new key", func() *tokencache.Cache {
			return enveloped(t, s, tokencache.Envelope{Wrapper: wrapper(t, newer, private)})
		}, func() *tokencache.Cache {
			return enveloped(t, s, tokencache.Envelope{Wrapper: wrapper(t, newer)})
		}},
		{"move back", func() *tokencache.Cache {
			return enveloped(t, s, tokencache.Envelope{Wrapper: wrapper(t, newer), Old: keys, OpenOnly: true})
		}, func() *tokencache.Cache {
			c, err := tokencache.New(s, keys)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}},
	} {
		stop := refreshing(t, step.with)
		err := step.with().Rekey(ctx)
		stop()
		if err != nil {
			t.Fatalf("%s: %v", step.of, err)
		}
		n := 0
		for _, err := range step.then().List(ctx) {
			if n++; err != nil {
				t.Errorf("%s: %v", step.of, err)
			}
		}
		if n != 40 {
			t.Errorf("%s: %d logins are left", step.of, n)
		}
	}
}

// refreshing refreshes some logins again and again until stop is called.
func refreshing(t *testing.T, open func() *tokencache.Cache) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 4 {
		c := open()
		wg.Go(func() {
			for ctx.Err() == nil {
				r, v, err := c.Load(t.Context(), user(i))
				if err == nil {
					r.Generation++
					_, err = c.Save(t.Context(), user(i), r, v)
				}
				if err != nil && !errors.Is(err, tokencache.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func user(i int) tokencache.Key {
	return tokencache.Key{Issuer: "https://issuer.test", ClientID: "app", Account: fmt.Sprint(i)}
}

func enveloped(t *testing.T, s tokencache.Store, e tokencache.Envelope) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.NewEnveloped(s, e)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newPrivateKey(t *testing.T) []byte {
	t.Helper()
	key, err := keycheck.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func wrapper(t *testing.T, keys ...[]byte) *publickey.Wrapper {
	t.Helper()
	w, err := publickey.NewWrapper(bytes.Join(keys, nil))
	if err != nil {
		t.Fatal(err)
	}
	return w
}
