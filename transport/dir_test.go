package transport_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// openSealed returns a sealed cache in dir, as each program opens it.
func openSealed(t *testing.T, dir string) *tokencache.Cache {
	t.Helper()
	d, err := tokencache.OpenDir(filepath.Join(dir, "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := tokencache.New(d, tokencache.KeyFile(filepath.Join(dir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Several Sources of one process on one directory take turns as processes do.
func TestSourcesOfOneProcessShareADirectory(t *testing.T) {
	for name, shared := range map[string]bool{"one Cache": true, "a Cache each": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 20 * time.Millisecond})
			dir := t.TempDir()
			cache := openSealed(t, dir)
			source := func() *transport.Source {
				return w.source(func(c *transport.SourceConfig) {
					if c.Cache = cache; !shared {
						c.Cache = openSealed(t, dir)
					}
				})
			}
			s := source()
			w.login(s, "ann")
			for range 5 {
				r := w.stored(s)
				r.ObtainedAt, r.Expiry = r.ObtainedAt.Add(-2*time.Hour), r.Expiry.Add(-2*time.Hour) // as if they had passed
				_, v, err := s.Cfg().Cache.Load(t.Context(), s.Cfg().Key)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Cfg().Cache.Save(t.Context(), s.Cfg().Key, r, v); err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				for range 4 {
					next := source()
					wg.Go(func() {
						if _, err := next.Token(t.Context()); err != nil {
							t.Error(err)
						}
						if err := next.Close(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			}
			w.wantCounts(5, 0)
			if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken || r.Generation != 6 {
				t.Errorf("stored: %v", r)
			}
		})
	}
}

// A damaged file is an error that says which, and is kept: the program that can
// repair it, or Forget, has the last word.
func TestADamagedFile(t *testing.T) {
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
	dir := t.TempDir()
	s := w.source(func(c *transport.SourceConfig) { c.Cache = openSealed(t, dir) })
	w.login(s, "ann")
	var file string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if b, _ := os.ReadFile(path); len(b) > 100 && filepath.Base(path) != "key" {
			file = path
		}
		return err
	})
	if err != nil || file == "" {
		t.Fatalf("no record found: %v", err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), good...)
	bad[len(bad)-1] ^= 1
	for _, damaged := range [][]byte{bad, good[:50], {}} {
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		next := w.source(func(c *transport.SourceConfig) { c.Cache = openSealed(t, dir) })
		_, err := next.Token(t.Context())
		if !errors.Is(err, transport.ErrStorage) || !errors.Is(err, tokencache.ErrCorrupt) || errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("got %v", err)
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != string(damaged) {
			t.Errorf("the file was changed, %v", err)
		}
	}
	w.wantCounts(0, 0)
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.source(func(c *transport.SourceConfig) { c.Cache = openSealed(t, dir) }).Token(t.Context()); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

// What is wrong with the configuration of the Refresher is said by NewSource, and
// what is left out is filled in.
func TestSourceConfig(t *testing.T) {
	w := newWorld(t, defaultServer)
	for field, change := range map[string]func(*endpoint.Endpoint){
		"Endpoint.TokenURL":  func(e *endpoint.Endpoint) { e.TokenURL = "http://auth.test/token" },
		"Endpoint.ClientID":  func(e *endpoint.Endpoint) { e.ClientID = "" },
		"Endpoint.AuthStyle": func(e *endpoint.Endpoint) { e.AuthStyle = oauth2.AuthStyleAutoDetect },
	} {
		e := w.endpoint()
		change(e)
		_, err := transport.NewSource(transport.SourceConfig{Cache: w.cache(), Refresher: e})
		if got, ok := errors.AsType[*transport.Error](err); !ok || got.Kind != transport.ErrMisconfigured || got.Field != field || got.Remedy == "" {
			t.Errorf("%s: got %v", field, err)
		}
	}
	ts := static(&oauth2.Token{AccessToken: "x"}, nil)
	for _, key := range []tokencache.Key{{}, {Issuer: "i"}, {ClientID: "c"}} {
		_, err := transport.NewSource(transport.SourceConfig{Cache: w.cache(), Refresher: ts, Key: key})
		if got, ok := errors.AsType[*transport.Error](err); !ok || got.Field != "SourceConfig.Key" {
			t.Errorf("%+v: got %v", key, err)
		}
	}
	s, err := transport.NewSource(transport.SourceConfig{Cache: w.cache(), Refresher: w.endpoint(), Key: tokencache.Key{Account: "ann", Audience: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := (tokencache.Key{Issuer: w.srv.TokenURL(), ClientID: w.srv.ClientID(), Account: "ann", Audience: "x"}); s.Key() != want {
		t.Errorf("key %+v, want %+v", s.Key(), want)
	}
	if s.Cfg().Timeout != day || s.Cfg().Logger == nil {
		t.Errorf("timeout %v", s.Cfg().Timeout)
	}
	issuer := w.endpoint()
	issuer.Issuer = "https://issuer.test"
	if s, err = transport.NewSource(transport.SourceConfig{Cache: w.cache(), Refresher: issuer}); err != nil || s.Key().Issuer != "https://issuer.test" {
		t.Errorf("issuer %q, %v", s.Key().Issuer, err)
	}
}
