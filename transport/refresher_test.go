package transport_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// A delegation obtains a token for a user whom the Key alone names, as token exchange
// and the JWT bearer grant do (F8). It is all that somebody else's Refresher needs.
type delegation struct {
	mu    sync.Mutex
	gate  transport.Gate
	asked map[string]int
	empty int // how often there was nothing but the Key
	down  bool
	probe int
}

func (d *delegation) Identity() transport.Identity {
	return transport.Identity{Key: tokencache.Key{Issuer: "https://sts.test", ClientID: "service"}, TokenURL: "https://sts.test/token", Gate: &d.gate}
}

func (d *delegation) Check(current *tokencache.Record) error {
	if current.Key.Issuer != "https://sts.test" || current.Key.ClientID != "service" {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "config", Remedy: "the record is that of " + current.Key.Issuer}
	}
	return nil
}

func (d *delegation) Refresh(_ context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked[current.Key.Account]++
	if current.AccessToken == "" {
		d.empty++
	}
	if d.down {
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Status: 503}
	}
	return &tokencache.Record{AccessToken: tokencache.Secret("at-" + current.Key.Account), TokenType: "Bearer",
		ObtainedAt: time.Now(), Expiry: time.Now().Add(time.Hour)}, nil
}

func (d *delegation) Probe(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.probe++; d.down {
		return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Status: 503}
	}
	return nil
}

// TestRefresherIsToldWhoseLogin: a Pool whose logins nobody has made by a browser obtains
// a token for each account, because its Refresher is told whose it is: when nothing is
// stored, from memory, and from the cache (F8).
func TestRefresherIsToldWhoseLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := new(tokencache.Memory)
		d := &delegation{asked: map[string]int{}}
		for process := 1; process <= 2; process++ {
			cache, err := tokencache.New(store, nil)
			if err != nil {
				t.Fatal(err)
			}
			pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: d, Key: tokencache.Key{Account: "nobody"}}})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				for _, account := range []string{"ann", "bob"} {
					tok, err := pool.Source(account).Token(t.Context())
					if err != nil || string(tok.AccessToken) != "at-"+account {
						t.Errorf("%s: got %q, %v", account, string(tok.AccessToken), err)
					}
				}
				time.Sleep(2 * time.Hour)
			}
		}
		if len(d.asked) != 2 || d.asked["ann"] != 4 || d.asked["bob"] != 4 || d.empty != 2 {
			t.Errorf("asked for %v, %d times with nothing but a key", d.asked, d.empty)
		}
	})
}

// TestRefreshersShareAGate: who hands out the same Gate is left alone together, and asked
// a harmless question first when that is over.
func TestRefreshersShareAGate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &delegation{asked: map[string]int{}, down: true}
		source := func(account string) *transport.Source {
			s, err := transport.NewSource(transport.SourceConfig{Cache: memoryCache(t), Refresher: d, Key: tokencache.Key{Account: account}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		ann, bob := source("ann"), source("bob")
		for _, s := range []*transport.Source{ann, bob} {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
		}
		if d.asked["bob"] != 0 {
			t.Errorf("bob has asked a provider that ann knows to be down")
		}
		time.Sleep(time.Minute)
		probes := d.probe
		if _, err := bob.Token(t.Context()); err == nil || d.probe == probes {
			t.Errorf("got %v after %d questions", err, d.probe-probes)
		}
		d.down = false
		time.Sleep(time.Minute)
		if _, err := bob.Token(t.Context()); err != nil {
			t.Errorf("the provider is back: %v", err)
		}
	})
}
