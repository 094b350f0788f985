package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Replicas of a service, each with a store of its own connections, call an API as the service
// itself, by a private key. In each period one of them makes one token request.
func TestReplicasOfAMachine(t *testing.T) {
	for name, where := range map[string]func(*testing.T) string{
		"directory":  func(t *testing.T) string { return t.TempDir() },
		"PostgreSQL": func(t *testing.T) string { return realparts.StartPostgreSQL(t, "max_connections=500").URL() },
		"Redis":      func(t *testing.T) string { return realparts.StartRedis(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config{Store: where(t)}
			if err := migrate(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			const (
				replicas = 32
				life     = 4 * time.Second
				span     = 2 * life
				earliest = life * 6 / 10 // The first third before the end, and a fifth of that.
			)
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			srv := oauthtest.New(oauthtest.Config{AuthStyle: oauthtest.AuthPrivateKey, ClientKeys: []crypto.PublicKey{key.Public()},
				AccessTTL: life, Latency: 20 * time.Millisecond})
			defer srv.Close()
			var mu sync.Mutex
			var asked []time.Time // for a signature, of which each token request has one
			sign := func(context.Context) (*clientauth.Key, error) {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, time.Now())
				return &clientauth.Key{Signer: key}, nil
			}
			var sources []*transport.Source
			for range replicas {
				store, err := c.openStore()
				if err != nil {
					t.Fatal(err)
				}
				if s, ok := store.(interface{ Close() }); ok {
					defer s.Close()
				}
				e := &endpoint.Endpoint{Issuer: srv.URL(), TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), Base: srv.RoundTripper(),
					ClientAuth: &clientauth.PrivateKey{Key: sign}}
				s, err := transport.NewSource(transport.SourceConfig{Cache: newCache(t, store), Refresher: e.ClientCredentials(), Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				sources = append(sources, s)
			}
			var all sync.WaitGroup
			begun := time.Now()
			for _, s := range sources {
				all.Go(func() {
					for time.Since(begun) < span {
						if _, err := s.Token(t.Context()); err != nil {
							t.Error(err)
							return
						}
						time.Sleep(20 * time.Millisecond)
					}
					if err := s.Close(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			n, took := srv.Counts(), time.Since(begun)
			t.Logf("%d token requests of %d replicas in %v", n.TokenRequests, replicas, took)
			if n.TokenRequests < 2 {
				t.Errorf("%d token requests in %v", n.TokenRequests, took)
			}
			for i := range len(asked) - 1 {
				if period := asked[i+1].Sub(asked[i]); period < earliest {
					t.Errorf("a token request %v after another, when its token was fresh", period)
				}
			}
			if len(asked) != n.TokenRequests || n.Assertions != n.TokenRequests || n.RepeatedAssertions != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}
