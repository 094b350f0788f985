package login

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// C98: one login at a certified server for two resources (RFC 8707), in two processes: each API
// gets a token that is for it, and no refresh token is presented twice although each works once. A
// third resource, for which the server would spend the refresh token and then refuse, is not asked for.
func TestRealResources(t *testing.T) {
	const files, mail, other = "https://files.example", "https://mail.example", "https://other.example"
	const life = 2 * time.Second // of an access token
	as := realparts.OIDCProvider(t, "--access-token-ttl=2")
	p, err := provider.Discover(t.Context(), as.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	store, loggedIn := new(tokencache.Memory), false
	process := func() map[string]*transport.Source {
		cache, err := tokencache.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := p.Endpoint(as.Public.ID, "", "openid", "offline_access", "api")
		e.Params = url.Values{"resource": {files}}
		sources := map[string]*transport.Source{}
		for _, resource := range []string{files, mail, other} {
			cfg := transport.SourceConfig{Cache: cache, Refresher: e}
			if resource != files {
				cfg.Refresher = e.For(url.Values{"resource": {resource}})
			}
			if sources[resource], err = transport.NewSource(cfg); err != nil {
				t.Fatal(err)
			}
		}
		if s := sources[files]; !loggedIn {
			loggedIn = true
			jar, _ := cookiejar.New(nil) // There is never an error.
			rec, err := Loopback(t.Context(), Config{Provider: p, Endpoint: e, Cache: cache, Out: io.Discard, Timeout: time.Minute,
				AuthParams: url.Values{"resource": {files, mail}, "prompt": {"consent"}},
				Open: func(_ context.Context, url string) error {
					go func() {
						if resp, err := (&http.Client{Jar: jar}).Get(url); err == nil {
							resp.Body.Close()
						}
					}()
					return nil
				}})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Login(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
		return sources
	}
	a, b := process(), process()
	for round := range 3 {
		var work sync.WaitGroup
		for _, sources := range []map[string]*transport.Source{a, b} {
			for _, resource := range []string{files, mail} {
				work.Go(func() {
					if got, err := audience(sources[resource], as.Issuer, as.API); got != resource || err != nil {
						t.Errorf("round %d: a token for %q, %v; want %q", round, got, err, resource)
					}
				})
			}
		}
		work.Wait()
		if _, err := a[other].Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("a resource that was not asked for at the login: %v", err)
		}
		if a, b = process(), a; round < 2 {
			time.Sleep(life)
		}
	}
	if c := as.Counts(); c.Reuses != 0 || c.Revoked != 0 || c.OK["refresh_token"] < 5 || c.OK["authorization_code"] != 1 {
		t.Errorf("the provider counted %+v", c)
	}
}

// audience returns whom the token of a Source is for, according to an API.
func audience(s *transport.Source, origin, api string) (string, error) {
	rt, err := transport.New(transport.Config{Source: s, Origins: []string{origin}})
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: rt}).Get(api)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var said struct{ Aud string }
	err = json.NewDecoder(resp.Body).Decode(&said)
	return said.Aud, err
}
