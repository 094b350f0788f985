package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A replica is told to end in the middle of 200 refreshes, for which nobody waits any more,
// or requests for half of them. The provider is slow and forgives nothing. Those requests
// are answered, and all that the provider has answered is saved, even if the store is
// restarted at the same time.
func TestTerminated(t *testing.T) {
	const users, latency = 200, 2 * time.Second
	for _, test := range []struct {
		name      string
		store     func(t *testing.T) (string, server)
		restarted bool
	}{
		{"PostgreSQL", onPostgreSQL, false},
		{"PostgreSQL is restarted", onPostgreSQL, true},
		{"Redis", onRedis, false},
		{"Redis is restarted", onRedis, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			provider := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: latency})
			ledger := newLedger(provider.Handler())
			server := httptest.NewServer(ledger)
			defer server.Close()
			c := config{Key: make([]byte, 32), TokenURL: server.URL + "/token", API: server.URL, App: server.URL, CookieKey: make([]byte, 32),
				ClientID: provider.ClientID(), ClientSecret: provider.ClientSecret(), EndTime: time.Minute}
			rand.Read(c.Key)
			where, store := test.store(t)
			c.Store = where
			if err := migrate(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			logins, cache, err := c.open()
			if err != nil {
				t.Fatal(err)
			}
			accounts := make([]string, users)
			for i := range accounts {
				accounts[i] = fmt.Sprint("user", i)
			}
			if err := each(accounts, func(_ int, account string) error {
				tokens := provider.Login(account)
				expired := &oauth2.Token{AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, Expiry: time.Now()}
				return logins.Source(account).Login(t.Context(), endpoint.FromOAuth2(expired))
			}); err != nil {
				t.Fatal(err)
			}
			r, err := startReplica("", c)
			if err != nil {
				t.Fatal(err)
			}
			defer r.kill()
			leaving, leave := context.WithCancel(t.Context())
			defer leave()
			var requests sync.WaitGroup
			for i, account := range accounts {
				requests.Go(func() {
					ctx := t.Context()
					if !test.restarted || i%2 == 1 {
						ctx = leaving
					}
					req, _ := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/"+account, nil)
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						if ctx.Err() == nil {
							t.Error(err)
						}
						return
					}
					defer resp.Body.Close()
					if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
						t.Errorf("%s: %s %s", account, resp.Status, body)
					}
				})
			}
			for begun := time.Now(); ledger.counted().due < users && time.Since(begun) < 2*time.Minute; {
				time.Sleep(10 * time.Millisecond)
			}
			t.Logf("%d refreshes have begun, %d have ended", ledger.counted().due, provider.Counts().Rotations)
			leave()
			time.Sleep(latency / 4)
			begun := time.Now()
			if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if test.restarted {
				store.Stop()
				time.Sleep(latency)
				store.Start()
			}
			if err := r.cmd.Wait(); err != nil {
				t.Errorf("the replica: %v", err)
			}
			t.Logf("the replica has ended after %v", time.Since(begun).Round(10*time.Millisecond))
			requests.Wait()
			after, err := stored(cache, c, accounts)
			if err != nil {
				t.Fatal(err)
			}
			lost := 0
			for _, rec := range after {
				if rec.Tombstone != nil || rec.Attempt != nil || ledger.wasSpent(string(rec.RefreshToken)) {
					lost++
				}
			}
			if n := provider.Counts(); lost > 0 || n.Reuses > 0 {
				t.Errorf("%d logins are lost; the provider has seen %+v", lost, n)
			}
		})
	}
}
