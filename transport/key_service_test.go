package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A crowd is many users whose logins two processes keep, sealed with the help of a key service.
type crowd struct {
	*world
	service *keycheck.StandIn
	pools   []*transport.Pool
	clients []*http.Client
	failed  atomic.Int64
}

const (
	crowdSize = 200
	callEvery = 20 * time.Second
)

func newCrowd(t *testing.T) *crowd {
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 4 * time.Minute, Latency: 200 * time.Millisecond})
	w.base = w.srv.Direct()
	c := &crowd{world: w, service: keycheck.NewStandIn(t)}
	for range 2 {
		pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: c.cache(), Refresher: w.endpoint()}})
		if err != nil {
			t.Fatal(err)
		}
		rt, err := transport.New(transport.Config{Pool: pool, Origins: []string{w.srv.APIOrigin()}, Base: w.base})
		if err != nil {
			t.Fatal(err)
		}
		c.pools, c.clients = append(c.pools, pool), append(c.clients, &http.Client{Transport: rt})
	}
	for i := range crowdSize {
		w.login(c.pools[0].Source(fmt.Sprint(i)), fmt.Sprint(i))
	}
	return c
}

// cache returns one as a process has it that was just started.
func (c *crowd) cache() *tokencache.Cache {
	cache, err := tokencache.NewEnveloped(c.store, tokencache.Envelope{Wrapper: c.service})
	if err != nil {
		c.t.Fatal(err)
	}
	return cache
}

// call makes calls of all users to both processes for a time.
func (c *crowd) call(span time.Duration) {
	var wg sync.WaitGroup
	for i := range crowdSize {
		wg.Go(func() {
			time.Sleep(callEvery * time.Duration(i) / crowdSize)
			ctx := transport.WithAccount(c.t.Context(), fmt.Sprint(i))
			for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(callEvery) {
				for _, client := range c.clients {
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.srv.APIURL(), nil)
					if err != nil {
						c.t.Error(err)
						return
					}
					resp, err := client.Do(req)
					if err == nil {
						resp.Body.Close()
					}
					if err != nil || resp.StatusCode != http.StatusOK {
						if c.failed.Add(1) == 1 {
							c.t.Errorf("user %d: %v, %v", i, resp, err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}

func (c *crowd) wantNoLosses() {
	c.t.Helper()
	counts := c.srv.Counts()
	c.t.Logf("%d API calls, %d failed; %d rotations", counts.APICalls, c.failed.Load(), counts.Rotations)
	if c.failed.Load() != 0 || counts.Reuses != 0 {
		c.t.Errorf("%d calls failed, %d refresh tokens were used twice", c.failed.Load(), counts.Reuses)
	}
}

// The key service is down for ten minutes, in which every login has to be rotated twice. No
// call of a login that is in memory fails, hardly any goes to the key service, and what is not
// in memory is served again within seconds afterwards.
func TestKeyServiceIsDownForTenMinutes(t *testing.T) {
	for name, fault := range map[string]func(context.Context) error{
		"refuses": unavailable,
		"hangs":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCrowd(t)
				c.call(time.Minute) // now both processes know every login
				before := c.srv.Counts().Rotations
				c.service.Called()
				c.service.Fail(fault)
				c.call(10 * time.Minute)
				if n := c.srv.Counts().Rotations - before; n < 2*crowdSize {
					t.Errorf("%d rotations during the outage, want at least %d", n, 2*crowdSize)
				}
				if wraps, opens := c.service.Called(); wraps+opens != 0 {
					t.Errorf("%d calls to the key service, by logins that need none", wraps+opens)
				}
				fresh := freshSource(c)
				if _, err := fresh.Token(t.Context()); err == nil {
					t.Error("a process that was just started opened a login without the key service")
				}
				c.service.Fail(nil)
				back := time.Now()
				for {
					_, err := fresh.Token(t.Context())
					if err == nil {
						break
					}
					if time.Since(back) > time.Minute {
						t.Fatalf("still failing after a minute: %v", err)
					}
					time.Sleep(time.Second)
				}
				t.Logf("served again %v after the outage", time.Since(back))
				c.call(6 * time.Minute)
				c.wantNoLosses()
			})
		})
	}
}

// freshSource returns the Source of a login as a process has it that was just started.
func freshSource(c *crowd) *transport.Source {
	return c.source(func(cfg *transport.SourceConfig) {
		cfg.Cache, cfg.Key.Account = c.cache(), "0"
	})
}

// The key of the key service is replaced while all users call, and the old one destroyed when
// Rekey has returned. No call fails, and what is in the store opens with the new key alone.
func TestKeyServiceReplacesItsKeyUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.call(15 * time.Minute)
		}()
		for range 3 {
			time.Sleep(4 * time.Minute)
			c.service.Rotate(t)
			if err := c.cache().Rekey(t.Context()); err != nil {
				t.Error(err)
			}
			c.service.DestroyOld()
		}
		<-done
		c.wantNoLosses()
		n := 0
		for _, err := range c.cache().List(t.Context()) {
			if n++; err != nil {
				t.Error(err)
			}
		}
		if n != crowdSize {
			t.Errorf("%d logins are stored, want %d", n, crowdSize)
		}
	})
}

// envelopedWorld is a world whose logins are sealed with the help of a key service.
func envelopedWorld(t *testing.T) (*world, *keycheck.StandIn) {
	w, service := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Hour}), keycheck.NewStandIn(t)
	return w, service
}

func unavailable(context.Context) error {
	return fmt.Errorf("%w: being tested", tokencache.ErrUnavailable)
}

// A refresh whose result could not be sealed is not begun: the refresh token is not spent. The
// login works again as soon as the key service does.
func TestKeyServiceIsDownBeforeARefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, service := envelopedWorld(t)
		keys := tokencache.KeyBytes(bytes.Repeat([]byte("k"), 32))
		sealed, err := tokencache.New(w.store, keys)
		if err != nil {
			t.Fatal(err)
		}
		w.login(w.source(func(cfg *transport.SourceConfig) { cfg.Cache = sealed }), "ann")
		cache, err := tokencache.NewEnveloped(w.store, tokencache.Envelope{Wrapper: service, Old: keys})
		if err != nil {
			t.Fatal(err)
		}
		service.Fail(unavailable)
		s := w.source(func(cfg *transport.SourceConfig) { cfg.Cache = cache })
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("a good token is not served: %v", err)
		}
		time.Sleep(2 * time.Hour)
		_, err = s.Token(t.Context())
		if e, ok := errors.AsType[*transport.Error](err); !ok || e.Kind != transport.ErrStorage || !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("error %v, want one of the storage that is unavailable", err)
		}
		if n := w.srv.Counts().TokenRequests; n != 0 {
			t.Errorf("%d token requests", n)
		}
		service.Fail(nil)
		time.Sleep(time.Minute)
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// If the data key of a login was forgotten in the middle of a refresh, and the key service is
// down then, the new tokens are used unsaved, and saved as soon as it is back.
func TestKeyServiceIsDownAfterARefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, service := envelopedWorld(t)
		cache, err := tokencache.NewEnveloped(w.store, tokencache.Envelope{Wrapper: service, MaxKeys: 1})
		if err != nil {
			t.Fatal(err)
		}
		withCache := func(cfg *transport.SourceConfig) { cfg.Cache = cache }
		var during func()
		base := w.base
		w.base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			if during != nil {
				during()
			}
			return base.RoundTrip(req)
		})
		s := w.source(withCache)
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		during = func() {
			other := tokencache.Key{Account: "another login"}
			if _, err := cache.Save(t.Context(), other, &tokencache.Record{}, ""); err != nil {
				t.Error(err)
			}
			service.Fail(unavailable)
			during = nil
		}
		token, err := s.Token(t.Context())
		if err != nil {
			t.Fatalf("the new token is not served: %v", err)
		}
		if n := w.seen(transport.EventUnsaved); n != 1 {
			t.Errorf("it was told %d times that the login is not saved", n)
		}
		service.Fail(nil)
		time.Sleep(time.Minute)
		if stored := w.stored(s); stored.AccessToken != token.AccessToken {
			t.Error("the new token was not saved when the key service was back")
		}
		if c := w.srv.Counts(); c.Reuses != 0 || c.Rotations != 1 {
			t.Errorf("%d rotations, %d reuses", c.Rotations, c.Reuses)
		}
	})
}
