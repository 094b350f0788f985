package mcpauth_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/mcpauth"
	"github.com/stayauth/stayauth/transport/provider"
)

// C97: two servers that trust one authorization server have logins of their own, in one cache. None
// is sent a token that is meant for the other.
func TestTwoServersOfOneIssuer(t *testing.T) {
	one, two := newWorld(t), newWorld(t)
	as, _ := one.now()
	two.moveTo(as)
	two.store, two.known = one.store, one.known
	var mu sync.Mutex
	seen := map[string]*world{}
	for _, w := range []*world{one, two} {
		w.mu.Lock()
		w.lacks = func(token string) string {
			mu.Lock()
			defer mu.Unlock()
			if other := seen[token]; other != nil && other != w {
				t.Error("a server was sent the token of the other")
			}
			seen[token] = w
			return ""
		}
		w.mu.Unlock()
	}
	for range 2 {
		for _, w := range []*world{one, two} {
			p := w.mustStart()
			p.mustCall()
			p.end()
			w.wantLogins(1)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 2 {
		t.Errorf("%d tokens were used", len(seen))
	}
}

// A program that ends in the middle of a login leaves nothing behind that keeps the next from
// logging in, which another that waited for it does at once.
func TestProgramEndsDuringALogin(t *testing.T) {
	w := newWorld(t)
	as, _ := w.now()
	began := make(chan struct{})
	h, err := mcpauth.New(mcpauth.Config{
		Cache: w.cache(), Client: provider.Client{Registered: map[string]provider.Credentials{as.URL(): {ID: "client"}}},
		Login: func(ctx context.Context, cfg login.Config) (*tokencache.Record, error) {
			close(began)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.connectWithin(ctx, h) }()
	<-began
	other, waits := w.handler(), make(chan error)
	defer other.Close(t.Context())
	go func() { waits <- w.connect(other) }()
	select {
	case err := <-waits:
		t.Fatalf("another has not waited: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	end()
	if err := <-ended; err == nil {
		t.Error("the program that has ended has logged in")
	}
	if err := <-waits; err != nil {
		t.Error(err)
	}
	w.wantLogins(1)
}

// A server that demands more scopes than anybody has a use for is not asked about: no browser would
// carry them.
func TestScopesWithoutEnd(t *testing.T) {
	w := newWorld(t)
	h := w.handler()
	defer h.Close(t.Context())
	if err := w.connect(h); err != nil {
		t.Fatal(err)
	}
	w.demands(`Bearer error="insufficient_scope", scope="`+strings.Repeat("scope ", 1000)+`"`, nil)
	if err := w.connect(h); err == nil {
		t.Error("the server had what it needs")
	}
	w.wantLogins(1)
}
