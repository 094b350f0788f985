package vaulttransit_test

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

var outage = flag.Duration("outage", 3*time.Second, "how long the server is down under load")

// While requests for many users never stop, and their tokens live for two seconds, the server
// is sealed, killed and frozen, its key is rotated, and the old one destroyed. No call fails,
// no refresh token is spent twice, and what is then on the disk opens without the old key.
func TestOutageUnderLoad(t *testing.T) {
	t.Parallel()
	server := realparts.StartOpenBao(t)
	p := mount(t, server, "transit")
	provider := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 2 * time.Second, Latency: 5 * time.Millisecond})
	t.Cleanup(provider.Close)
	dir := t.TempDir()
	process := func() (*tokencache.Cache, *transport.Pool) {
		store, err := tokencache.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		cache, err := tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: mustNew(t, p.cfg)})
		if err != nil {
			t.Fatal(err)
		}
		pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: &endpoint.Endpoint{
			TokenURL: provider.TokenURL(), ClientID: provider.ClientID(), ClientSecret: tokencache.Secret(provider.ClientSecret()),
			AuthStyle: oauth2.AuthStyleInHeader, Base: provider.RoundTripper(),
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return cache, pool
	}
	cache, pool := process()
	var users []string
	for i := range 20 {
		user := fmt.Sprint("user ", i)
		if err := pool.Source(user).Login(t.Context(), provider.Login(user).Record()); err != nil {
			t.Fatal(err)
		}
		users = append(users, user)
	}

	ctx, stop := context.WithCancel(t.Context())
	var calls, failed atomic.Int32
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	for _, user := range users {
		load.Go(func() {
			for ctx.Err() == nil {
				if _, err := pool.Source(user).Token(t.Context()); err != nil && failed.Add(1) < 5 {
					t.Errorf("%s: %v", user, err)
				}
				calls.Add(1)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	for what, times := range map[string]struct{ begin, end func() }{
		"sealed": {func() { server.Seal(t) }, func() { server.Unseal(t) }},
		"killed": {server.Crash, server.Start},
		"frozen": {server.Freeze, server.Thaw},
	} {
		times.begin()
		before, begun := provider.Counts().Rotations, time.Now()
		time.Sleep(*outage)
		for provider.Counts().Rotations == before && time.Since(begun) < *outage+time.Minute {
			time.Sleep(20 * time.Millisecond) // until even a busy machine has got so far
		}
		if n := provider.Counts().Rotations - before; n == 0 {
			t.Errorf("while the server was %s, nobody was refreshed", what)
		}
		times.end()
	}
	server.Do(t, "POST", "transit/keys/logins/rotate", nil, nil)
	if err := cache.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Do(t, "POST", "transit/keys/logins/config", map[string]int{"min_decryption_version": 2, "min_encryption_version": 2}, nil)
	server.Do(t, "POST", "transit/keys/logins/trim", map[string]int{"min_available_version": 2}, nil)
	time.Sleep(*outage / 2)
	stop()
	load.Wait()
	if err := pool.Close(t.Context()); err != nil {
		t.Error(err)
	}

	_, next := process()
	for _, user := range users {
		if _, err := next.Source(user).Token(t.Context()); err != nil {
			t.Errorf("%s, after a restart without the old key: %v", user, err)
		}
	}
	if err := next.Close(t.Context()); err != nil {
		t.Error(err)
	}
	counts := provider.Counts()
	t.Logf("%d calls, %d failed, %d refreshes, %d reuses", calls.Load(), failed.Load(), counts.Rotations, counts.Reuses)
	if counts.Reuses > 0 || counts.FamiliesRevoked > 0 {
		t.Errorf("%d refresh tokens were spent twice", counts.Reuses)
	}
}
