package transport_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// gRPC gives the URI of the service: a token goes to the listed origins only, as over
// HTTP.
func TestRPCCredentialsGoToListedOriginsOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		want := "Bearer " + w.login(s, "ann").AccessToken
		for _, tt := range []struct {
			origins []string
			uri     []string
			ok      bool
		}{
			{[]string{"https://api.test"}, []string{"https://api.test/pkg.Service"}, true},
			{[]string{"https://api.test"}, nil, true},
			{[]string{"https://*.api.test:8443"}, []string{"https://eu.api.test:8443/pkg.Service"}, true},
			{[]string{"https://api.test"}, []string{"https://evil.test/pkg.Service"}, false},
			{[]string{"https://api.test"}, []string{"https://api.test:8443/pkg.Service"}, false},
			{[]string{"https://api.test"}, []string{"https://api.test/a", "https://evil.test/b"}, false},
			{[]string{"https://api.test"}, []string{"http://api.test/a"}, false},
			{[]string{"https://api.test"}, []string{"%"}, false},
			{[]string{"http://127.0.0.1:9000"}, []string{"https://127.0.0.1:9000/pkg.Service"}, true},
			{[]string{"http://127.0.0.1:9000", "https://api.test"}, []string{"https://127.0.0.1:9000/pkg.Service"}, false},
			{[]string{"http://127.0.0.1:9000", "https://api.test"}, []string{"https://api.test/pkg.Service"}, true},
		} {
			rt, err := transport.New(transport.Config{Source: s, Origins: tt.origins, Base: w.base})
			if err != nil {
				t.Fatal(err)
			}
			md, err := rt.GetRequestMetadata(t.Context(), tt.uri...)
			if tt.ok && (err != nil || len(md) != 1 || md["authorization"] != want) {
				t.Errorf("%q to %q: %d headers, %v", tt.origins, tt.uri, len(md), err)
			}
			if !tt.ok && (!errors.Is(err, transport.ErrMisconfigured) || md != nil) {
				t.Errorf("%q to %q: %d headers, %v; want an error", tt.origins, tt.uri, len(md), err)
			}
			if secure := tt.origins[0][:5] == "https" || len(tt.origins) == 2; rt.RequireTransportSecurity() != secure {
				t.Errorf("%q: security required: %v", tt.origins, !secure)
			}
		}
	})
}

// A call's deadline ends its wait, and the kind of an error is seen.
func TestRPCCredentialsHeedTheCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test"}, Base: w.base})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rt.GetRequestMetadata(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("without a login: %v", err)
		}
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Slow(10*time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		begun := time.Now()
		if _, err := rt.GetRequestMetadata(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 200*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		time.Sleep(time.Minute) // The refresh went on.
		if md, err := rt.GetRequestMetadata(t.Context()); err != nil || md["authorization"] != "Bearer "+w.srv.Current("ann").AccessToken {
			t.Errorf("%v", err)
		}
		w.wantCounts(1, 0)
	})
}

// With a Pool, the context of the call names the account.
func TestRPCCredentialsOfAPool(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: w.cache(), Refresher: w.endpoint()}})
		if err != nil {
			t.Fatal(err)
		}
		rt, err := transport.New(transport.Config{Pool: pool, Origins: []string{"https://api.test"}, Base: w.base})
		if err != nil {
			t.Fatal(err)
		}
		for _, account := range []string{"ann", "bob"} {
			tokens := w.login(pool.Source(account), account)
			md, err := rt.GetRequestMetadata(transport.WithAccount(t.Context(), account), "https://api.test/pkg.Service")
			if err != nil || md["authorization"] != "Bearer "+tokens.AccessToken {
				t.Errorf("%s: %v", account, err)
			}
		}
		if _, err := rt.GetRequestMetadata(t.Context()); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("no account: %v", err)
		}
	})
}
