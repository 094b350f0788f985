package transport_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// threeAPIsOverTCP starts a provider and three APIs, and returns a caller of all of them, which is
// logged in.
func threeAPIsOverTCP(t *testing.T, cfg oauthtest.Config) (*oauthtest.Server, caller) {
	t.Helper()
	var apis []*httptest.Server
	for range 3 {
		api := httptest.NewUnstartedServer(nil)
		apis = append(apis, api)
		cfg.Resources = append(cfg.Resources, "http://"+api.Listener.Addr().String())
	}
	srv := oauthtest.New(cfg)
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testkit.NoteSecrets(srv.Secrets()) })
	t.Cleanup(srv.Close)
	for _, api := range apis {
		api.Config.Handler = srv.Handler()
		api.Start()
		t.Cleanup(api.Close)
	}
	c := caller{Dir: t.TempDir(), TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), Secret: srv.ClientSecret(),
		API: cfg.Resources[0] + "/api", Origin: cfg.Resources[0], Further: cfg.Resources[1:]}
	store, err := tokencache.OpenDir(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tokencache.New(store, tokencache.KeyBytes(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: c.refresher(c.Origin)})
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Login(t.Context(), record(srv.Login("ann"))); err != nil {
		t.Fatal(err)
	}
	return srv, c
}

// C98: 100 goroutines in 4 processes call three APIs over one login: one refresh for each token
// that the login has not brought, however many ask for it at once.
func TestC98FourProcesses(t *testing.T) {
	for _, policy := range []oauthtest.Policy{oauthtest.KeepOld, oauthtest.StrictFamily} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			srv, c := threeAPIsOverTCP(t, oauthtest.Config{Policy: policy})
			var calls []func(int)
			for i := range 4 {
				c.Name = fmt.Sprint(i)
				calls = append(calls, c.start(t))
			}
			for range 3 {
				var wg sync.WaitGroup
				for _, call := range calls {
					wg.Go(func() { call(25) })
				}
				wg.Wait()
			}
			if n := srv.Counts(); n.TokenRequests != 2 || n.Rotations != 2 || n.Reuses+n.InvalidGrants+n.Misdirected+n.APIRefused != 0 || n.APICalls != 300 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// Processes that are killed in the middle of anything lose neither the login nor the tokens of
// the other APIs, as far as the provider forgives the repetition of a lost request.
func TestTargetsOfProcessesThatAreKilled(t *testing.T) {
	t.Parallel()
	srv, c := threeAPIsOverTCP(t, oauthtest.Config{Policy: oauthtest.Grace, GracePeriod: time.Hour, AccessTTL: time.Second, Latency: 150 * time.Millisecond})
	var wg sync.WaitGroup
	for i := range 4 {
		c := c
		c.Name = fmt.Sprint(i)
		wg.Go(func() {
			for range 6 {
				process, in, lines := c.launch(t)
				fmt.Fprintln(in, 25)
				time.Sleep(rand.N(500 * time.Millisecond))
				process.Kill()
				for lines.Scan() {
				}
			}
		})
	}
	wg.Wait()
	c.Name = "later"
	c.start(t)(9)
	if n := srv.Counts(); n.Reuses+n.InvalidGrants+n.Misdirected != 0 || n.Rotations == 0 {
		t.Errorf("%+v", n)
	} else {
		t.Logf("%d rotations, of which %d were repeated", n.Rotations, n.Replays)
	}
}
