package oauthtest_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport"
	. "github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// An API that publishes metadata leads to its authorization server, and one that lies in it does
// not.
func TestPublishResource(t *testing.T) {
	c := inMemory(t, Config{Scope: "read write", DPoP: DPoP{Mode: DPoPOptional}})
	ask := func() (*provider.Resource, error) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, c.s.APIURL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		all := transport.ParseChallenges(resp.Header)
		for _, challenge := range all {
			if challenge.Params["resource_metadata"] != all[0].Params["resource_metadata"] {
				t.Errorf("the challenges are %v", all)
			}
		}
		return provider.Discovery{Base: c.rt}.Resource(t.Context(), c.s.APIURL(), all...)
	}
	if _, err := ask(); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("unpublished: %v", err)
	}
	c.s.PublishResource(nil)
	r, err := ask()
	if err != nil || r.ID != c.s.APIURL() || len(r.Issuers) != 1 || r.Issuers[0] != c.s.URL() || strings.Join(r.Scopes, " ") != "read write" {
		t.Fatalf("got %+v, %v", r, err)
	}
	if p, err := r.Provider(t.Context(), r.Issuers[0]); err != nil || p.TokenURL != c.s.TokenURL() || p.NoPKCE {
		t.Errorf("got %+v, %v", p, err)
	}
	c.s.PublishResource(map[string]any{"resource": "https://bank.test/api"})
	if _, err := ask(); err == nil || !strings.Contains(err.Error(), "bank.test") {
		t.Errorf("a lie: %v", err)
	}
	c.s.PublishResource(map[string]any{"authorization_servers": nil})
	if _, err := ask(); err == nil || !strings.Contains(err.Error(), "no authorization server") {
		t.Errorf("no server: %v", err)
	}
	if n := len(c.s.Strays()); n != 0 {
		t.Errorf("%d requests to strangers", n)
	}
}
