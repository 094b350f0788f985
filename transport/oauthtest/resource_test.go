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

// A token is good for the resources that its request named, which are some of those of the login,
// and for no others (RFC 8707 section 2.2). What is refused spends nothing.
func TestResources(t *testing.T) {
	const a, b, other = "https://a.test", "https://b.test", "https://other.test"
	c := inMemory(t, Config{Policy: StrictFamily, Resources: []string{a, b}})
	calls := func(token string) (accepted string) {
		for _, origin := range []string{a, b, c.s.APIOrigin()} {
			req, err := http.NewRequest(http.MethodGet, origin+"/api", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			if got, err := c.send(req); err != nil {
				t.Fatal(err)
			} else if got.Status == 200 {
				accepted += origin
			}
		}
		return accepted
	}
	rt := c.s.Login("alice").RefreshToken
	for _, tt := range []struct {
		asked []string
		want  string // error, or else the APIs that accept the token
	}{
		{nil, a}, {[]string{b}, b}, {[]string{a, b}, a + b}, {[]string{other}, "invalid_target"}, {[]string{a, other}, "invalid_target"}, {[]string{a}, a},
	} {
		form := []string{"grant_type", "refresh_token", "refresh_token", rt}
		for _, r := range tt.asked {
			form = append(form, "resource", r)
		}
		got, err := c.post("/token", form...)
		if err != nil || got.Error == "" && calls(got.AccessToken) != tt.want || got.Error != "" && got.Error != tt.want {
			t.Errorf("%v: %d %q, %v; want %q", tt.asked, got.Status, got.Error, err, tt.want)
		}
		if got.Error == "" {
			rt = got.RefreshToken
		}
	}
	if n := c.s.Counts(); n.Rotations != 4 || n.Reuses != 0 || n.Misdirected != 7 || len(c.s.Strays()) != 0 {
		t.Errorf("%+v", n)
	}
}
