//go:build unix

package faultstest

import (
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A server that nobody here wrote is stopped while it is asked for tokens, for longer than
// a caller waits. It works through all that it was sent when it goes on, and forgives
// nothing: one token request for each login, also for the one that two processes share,
// and all are kept.
func TestCertifiedProviderStopped(t *testing.T) {
	t.Parallel()
	stop := pick(4*time.Second, 18*time.Second, 60*time.Second)
	p := realparts.OIDCProvider(t, "--access-token-ttl=600")
	var requests atomic.Int32
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost {
			requests.Add(1)
		}
		return http.DefaultTransport.(*http.Transport).RoundTrip(r)
	})
	newEndpoint := func() *endpoint.Endpoint {
		return &endpoint.Endpoint{TokenURL: p.Issuer + "/token", ClientID: p.Public.ID, Base: base}
	}
	source := func(store tokencache.Store, e *endpoint.Endpoint) *transport.Source {
		cache, err := tokencache.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: e, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const logins = 5
	shared := newEndpoint()
	var sources []*transport.Source
	for range logins {
		store := new(tokencache.Memory)
		s := source(store, shared)
		login := p.Mint(p.Public, "alice", "")
		// Its access token has expired.
		err := s.Login(t.Context(), &tokencache.Record{AccessToken: tokencache.Secret(login.AccessToken), RefreshToken: tokencache.Secret(login.RefreshToken),
			ObtainedAt: time.Now().Add(-2 * time.Minute), Expiry: time.Now().Add(-time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		if sources = append(sources, s); len(sources) == 1 {
			sources = append(sources, source(store, newEndpoint()))
		}
	}
	t.Cleanup(func() { p.Signal(syscall.SIGCONT) })
	p.Signal(syscall.SIGSTOP)
	stopped := time.Now()
	go func() {
		time.Sleep(stop)
		p.Signal(syscall.SIGCONT)
	}()
	var failed atomic.Int32
	var wg sync.WaitGroup
	for _, s := range sources {
		wg.Go(func() {
			for {
				_, err := s.Token(t.Context())
				if err == nil {
					return
				}
				if failed.Add(1); errors.Is(err, transport.ErrLoginRequired) || time.Since(stopped) > stop+goodAgain {
					t.Errorf("after %v: %v", time.Since(stopped), err)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	c := p.Counts()
	t.Logf("stopped for %v: all is well after %v; %d token requests, %d answered, %d calls failed meanwhile", stop, time.Since(stopped).Round(100*time.Millisecond), requests.Load(), c.OK["refresh_token"], failed.Load())
	if requests.Load() != logins || c.OK["refresh_token"] != logins || c.Reuses != 0 || c.Revoked != 0 {
		t.Errorf("%d token requests, %d answered, %d reuses, %d logins revoked; want %d, %d, 0, 0", requests.Load(), c.OK["refresh_token"], c.Reuses, c.Revoked, logins, logins)
	}
}
