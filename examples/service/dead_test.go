package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A replica is killed when the provider has rotated the refresh token and not yet
// answered. Another one, which has never heard of that user, and which nobody asks for
// anything, makes up for it.
func TestDeadReplica(t *testing.T) {
	for name, store := range map[string]func(t *testing.T) (string, server){"PostgreSQL": onPostgreSQL, "Redis": onRedis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider := oauthtest.New(oauthtest.Config{Policy: oauthtest.Grace, GracePeriod: time.Hour})
			var victim atomic.Pointer[replica]
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if v := victim.Load(); r.URL.Path == "/token" && v != nil && victim.CompareAndSwap(v, nil) {
					provider.Handler().ServeHTTP(httptest.NewRecorder(), r)
					v.kill()
					panic(http.ErrAbortHandler)
				}
				provider.Handler().ServeHTTP(w, r)
			}))
			defer server.Close()
			c := config{Key: make([]byte, 32), TokenURL: server.URL + "/token", API: server.URL, App: server.URL, CookieKey: make([]byte, 32),
				ClientID: provider.ClientID(), ClientSecret: provider.ClientSecret()}
			c.Store, _ = store(t)
			rand.Read(c.Key)
			if err := migrate(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			logins, cache, err := c.open()
			if err != nil {
				t.Fatal(err)
			}
			tokens := provider.Login("ann")
			expired := &oauth2.Token{AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, Expiry: time.Now()}
			if err := logins.Source("ann").Login(t.Context(), endpoint.FromOAuth2(expired)); err != nil {
				t.Fatal(err)
			}
			first, err := startReplica("", c)
			if err != nil {
				t.Fatal(err)
			}
			defer first.kill()
			other, err := startReplica("", c)
			if err != nil {
				t.Fatal(err)
			}
			defer other.kill()

			victim.Store(first)
			http.Get(first.url + "/ann") // An error: the replica dies.
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			for {
				rec, _, err := cache.Load(ctx, tokencache.Key{Issuer: c.TokenURL, ClientID: c.ClientID, Account: "ann"})
				if err != nil {
					t.Fatal(err)
				}
				if rec.Generation == 2 && rec.Attempt == nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Logf("made up for after %v", time.Since(begun).Round(10*time.Millisecond))
			if n := provider.Counts(); n.TokenRequests != 2 || n.Replays != 1 || n.Reuses != 0 || n.APICalls != 0 {
				t.Errorf("the provider has seen %+v, want two token requests, of which one was forgiven", n)
			}
		})
	}
}
