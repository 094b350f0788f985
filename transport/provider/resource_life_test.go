package provider_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// C53, C107: an API that moves to another authorization server, or says so, needs a new login
// there. That server is sent nothing of the old one, which stays, and is used again when the API
// comes back.
func TestResourceMovesToAnotherServer(t *testing.T) {
	ctx := t.Context()
	cfg := oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone}
	old, other := oauthtest.New(cfg), oauthtest.New(cfg)
	for _, s := range []*oauthtest.Server{old, other} {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	// open does what a program does when it starts: it asks the API whose tokens it takes.
	open := func() (*provider.Provider, *transport.Source) {
		t.Helper()
		resp, err := http.Get(old.APIURL())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		r, err := provider.DiscoverResource(ctx, old.APIURL(), transport.ParseChallenges(resp.Header)...)
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.Provider(ctx, r.Issuers[0])
		if err != nil {
			t.Fatal(err)
		}
		source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: p.Endpoint("client", "")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { source.Close(ctx) })
		return p, source
	}
	get := func(p *provider.Provider, s *transport.Source) error {
		t.Helper()
		rt, err := transport.New(transport.Config{Source: s, Origins: p.Origins})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: rt}).Get(old.APIURL() + "/things")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}

	old.PublishResource(nil)
	p, source := open()
	login := old.Login("user").Record()
	login.Expiry = time.Now() // so that each start needs a refresh
	if err := source.Login(ctx, login); err != nil {
		t.Fatal(err)
	}
	if err := get(p, source); err != nil {
		t.Fatal(err)
	}

	old.PublishResource(map[string]any{"authorization_servers": []string{other.URL()}})
	p, source = open()
	if p.Issuer != other.URL() {
		t.Fatalf("the issuer is %s", p.Issuer)
	}
	if err := get(p, source); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("after the move: %v", err)
	}
	if err := source.Logout(ctx); err != nil {
		t.Errorf("the end of no login: %v", err)
	}
	if c := other.Counts(); c.TokenRequests != 0 || c.Revocations != 0 || c.InvalidGrants != 0 {
		t.Errorf("the other server was sent something: %+v", c)
	}

	old.PublishResource(nil)
	p, source = open()
	if err := get(p, source); err != nil {
		t.Errorf("the old login: %v", err)
	}
	if c := old.Counts(); c.Reuses != 0 || c.Rotations != 1 {
		t.Errorf("the old server: %+v", c)
	}
}
