package tokencache_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

var testKey = tokencache.Key{Issuer: "https://issuer.example", ClientID: "client", Account: "ann@example.com"}

func testRecord() *tokencache.Record {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	return &tokencache.Record{
		TokenURL:     "https://issuer.example/token",
		AccessToken:  "access-token-secret",
		TokenType:    "Bearer",
		RefreshToken: "refresh-token-secret",
		IDToken:      "id-token-secret",
		Scope:        "read write",
		AuthorizedAt: now.Add(-time.Hour),
		ObtainedAt:   now,
		Expiry:       now.Add(time.Hour),
		LoginID:      "grant-1",
		Generation:   7,
		Attempt:      &tokencache.Attempt{At: now, PID: 42},
		Extra:        map[string]tokencache.Secret{"instance_url": "extra-secret"},
	}
}

func bytesKey(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// eachCache runs f on caches over each store of this package.
func eachCache(t *testing.T, f func(t *testing.T, c *tokencache.Cache)) {
	t.Run("Memory", func(t *testing.T) { f(t, newCache(t, new(tokencache.Memory), nil)) })
	t.Run("Memory sealed", func(t *testing.T) {
		f(t, newCache(t, new(tokencache.Memory), tokencache.KeyBytes(bytesKey(1))))
	})
	t.Run("Dir with KeyFile", func(t *testing.T) {
		dir := t.TempDir()
		f(t, newCache(t, openDir(t, filepath.Join(dir, "tokens")), tokencache.KeyFile(filepath.Join(dir, "key"))))
	})
	t.Run("Dir enveloped", func(t *testing.T) {
		f(t, enveloped(t, openDir(t, t.TempDir()), tokencache.Envelope{Wrapper: newKeyService(t)}))
	})
}

func newCache(t *testing.T, store tokencache.Store, keys tokencache.KeySource) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.New(store, keys)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func openDir(t *testing.T, path string) *tokencache.Dir {
	t.Helper()
	d, err := tokencache.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func wantErr(t *testing.T, err, want error, substrings ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want one that wraps %q", err, want)
	}
	for _, s := range substrings {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
}

func TestCacheRoundTrip(t *testing.T) {
	eachCache(t, func(t *testing.T, c *tokencache.Cache) {
		ctx := t.Context()
		if _, _, err := c.Load(ctx, testKey); !errors.Is(err, tokencache.ErrNotFound) {
			t.Fatalf("Load of nothing: %v", err)
		}
		r := testRecord()
		if err := c.Preflight(ctx, testKey, r); err != nil {
			t.Fatal(err)
		}
		v, err := c.Save(ctx, testKey, r, "")
		if err != nil {
			t.Fatal(err)
		}
		if r.Key != (tokencache.Key{}) {
			t.Error("Save modified the record")
		}
		if _, err := c.Save(ctx, testKey, r, ""); !errors.Is(err, tokencache.ErrConflict) {
			t.Fatalf("second Save of a new record: %v", err)
		}
		got, gotV, err := c.Load(ctx, testKey)
		if err != nil || gotV != v {
			t.Fatal(got, gotV, v, err)
		}
		if got.Key != testKey || got.RefreshToken != r.RefreshToken || got.Generation != 7 ||
			!got.ObtainedAt.Equal(r.ObtainedAt) || !got.Expiry.Equal(r.Expiry) ||
			got.Attempt == nil || got.Attempt.PID != 42 || got.Extra["instance_url"] != "extra-secret" {
			t.Errorf("loaded %+v", got)
		}
		got.Generation++
		v2, err := c.Save(ctx, testKey, got, v)
		if err != nil || v2 == v {
			t.Fatal(v2, err)
		}
		if err := c.Delete(ctx, testKey, v); !errors.Is(err, tokencache.ErrConflict) {
			t.Fatalf("Delete at an old version: %v", err)
		}
		if err := c.Delete(ctx, testKey, v2); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Load(ctx, testKey); !errors.Is(err, tokencache.ErrNotFound) {
			t.Fatalf("Load after Delete: %v", err)
		}
	})
}

func TestCacheLock(t *testing.T) {
	eachCache(t, func(t *testing.T, c *tokencache.Cache) {
		unlock, err := c.Lock(t.Context(), testKey)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := c.Lock(ctx, testKey); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("second Lock: %v", err)
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
		unlock, err = c.Lock(t.Context(), testKey)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	})
}

func TestCacheList(t *testing.T) {
	eachCache(t, func(t *testing.T, c *tokencache.Cache) {
		accounts := map[string]bool{}
		for _, account := range []string{"ann", "Ann", "bob"} {
			key := testKey
			key.Account = account
			if _, err := c.Save(t.Context(), key, testRecord(), ""); err != nil {
				t.Fatal(err)
			}
		}
		for r, err := range c.List(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			accounts[r.Key.Account] = true
		}
		if len(accounts) != 3 {
			t.Errorf("listed %v", accounts)
		}
	})
}

func TestListGoesOnAfterAnErrorAndStopsWhenTold(t *testing.T) {
	store := new(tokencache.Memory)
	c := newCache(t, store, tokencache.KeyBytes(bytesKey(1)))
	if _, err := store.Save(t.Context(), "damaged", []byte("junk"), ""); err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"ann", "bob"} {
		if _, err := c.Save(t.Context(), tokencache.Key{Account: account}, testRecord(), ""); err != nil {
			t.Fatal(err)
		}
	}
	var good, bad int
	for r, err := range c.List(t.Context()) {
		switch {
		case err == nil && r != nil:
			good++
		case errors.Is(err, tokencache.ErrCorrupt):
			bad++
		default:
			t.Error(r, err)
		}
	}
	if good != 2 || bad != 1 {
		t.Errorf("%d records and %d errors, want 2 and 1", good, bad)
	}
	for range c.List(t.Context()) {
		break
	}
}

func TestNewWantsKeysForAStoreThatIsNotConfidential(t *testing.T) {
	_, err := tokencache.New(openDir(t, t.TempDir()), nil)
	if err == nil || !strings.Contains(err.Error(), "KeyFile") {
		t.Errorf("New(Dir, nil): %v", err)
	}
	if _, err := tokencache.New(nil, nil); err == nil {
		t.Error("New(nil, nil) succeeded")
	}
}

// What is stored must be opened only as what it was stored as.
func TestCacheRefusesWhatItDidNotSeal(t *testing.T) {
	ctx := t.Context()
	store := new(tokencache.Memory)
	sealed := newCache(t, store, tokencache.KeyBytes(bytesKey(1)))
	if _, err := sealed.Save(ctx, testKey, testRecord(), ""); err != nil {
		t.Fatal(err)
	}
	data, v, err := store.Load(ctx, testKey.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"token-secret", "extra-secret", "issuer.example", "ann@"} {
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("the sealed entry contains %q", secret)
		}
	}

	t.Run("another key", func(t *testing.T) {
		other := newCache(t, store, tokencache.KeyBytes(bytesKey(2)))
		_, _, err := other.Load(ctx, testKey)
		wantErr(t, err, tokencache.ErrCorrupt, "sealed with another key (id ", "log in again")
	})
	t.Run("no keys", func(t *testing.T) {
		_, _, err := newCache(t, store, nil).Load(ctx, testKey)
		wantErr(t, err, tokencache.ErrCorrupt, "no keys")
	})
	t.Run("a newer and the old key", func(t *testing.T) {
		both := newCache(t, store, tokencache.KeyBytes(bytesKey(2), bytesKey(1)))
		if _, _, err := both.Load(ctx, testKey); err != nil {
			t.Error(err)
		}
	})
	t.Run("moved to another name", func(t *testing.T) {
		other := testKey
		other.Account = "bob"
		if _, err := store.Save(ctx, other.Name(), data, ""); err != nil {
			t.Fatal(err)
		}
		_, _, err := sealed.Load(ctx, other)
		wantErr(t, err, tokencache.ErrCorrupt, "another name")
	})
	t.Run("unsealed", func(t *testing.T) {
		plain := new(tokencache.Memory)
		if _, err := newCache(t, plain, nil).Save(ctx, testKey, testRecord(), ""); err != nil {
			t.Fatal(err)
		}
		_, _, err := newCache(t, plain, tokencache.KeyBytes(bytesKey(1))).Load(ctx, testKey)
		wantErr(t, err, tokencache.ErrCorrupt, "not sealed")
		moved, _, _ := plain.Load(ctx, testKey.Name())
		if _, err := plain.Save(ctx, tokencache.Key{}.Name(), moved, ""); err != nil {
			t.Fatal(err)
		}
		_, _, err = newCache(t, plain, nil).Load(ctx, tokencache.Key{})
		wantErr(t, err, tokencache.ErrCorrupt, "another key")
	})
	t.Run("any damaged byte and any length", func(t *testing.T) {
		for i := range data {
			damaged := bytes.Clone(data)
			damaged[i] ^= 1
			if v, err = store.Save(ctx, testKey.Name(), damaged, v); err != nil {
				t.Fatal(err)
			}
			if _, _, err := sealed.Load(ctx, testKey); !errors.Is(err, tokencache.ErrCorrupt) {
				t.Fatalf("byte %d damaged: %v", i, err)
			}
			if v, err = store.Save(ctx, testKey.Name(), data[:i], v); err != nil {
				t.Fatal(err)
			}
			if _, _, err := sealed.Load(ctx, testKey); !errors.Is(err, tokencache.ErrCorrupt) {
				t.Fatalf("cut to %d bytes: %v", i, err)
			}
		}
	})
}
