package main

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// At a certified provider that does not forgive: no refresh token is presented twice while a
// login moves, and the old program ends it for both if it goes on.
func TestMigrateAtOIDCProvider(t *testing.T) {
	as := realparts.OIDCProvider(t)
	path := filepath.Join(t.TempDir(), "token.json")
	login := as.Mint(as.Confidential, "ann", "openid offline_access")
	if err := writeToken(path, &oauth2.Token{RefreshToken: login.RefreshToken}); err != nil {
		t.Fatal(err)
	}
	p, err := provider.Discover(t.Context(), as.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	e := p.Endpoint(as.Confidential.ID, tokencache.Secret(as.Confidential.Secret))
	conf := &oauth2.Config{ClientID: e.ClientID, ClientSecret: as.Confidential.Secret,
		Endpoint: oauth2.Endpoint{TokenURL: p.TokenURL, AuthStyle: oauth2.AuthStyleInHeader}}
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	origin := strings.TrimSuffix(as.API, "/api/me")
	step := func(resp *http.Response, err error) {
		t.Helper()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
		if err := anHourPasses(t.Context(), path, cache); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		step(before(t.Context(), conf, path, as.API))
	}
	for range 3 {
		step(after(t.Context(), e, cache, path, origin, as.API))
	}
	if c := as.Counts(); c.Reuses != 0 || c.Revoked != 0 {
		t.Errorf("%+v", c)
	}
	if _, err := before(t.Context(), conf, path, as.API); err == nil {
		t.Error("the old program goes on: then the page is wrong")
	}
	if _, err := after(t.Context(), e, cache, path, origin, as.API); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("the login goes on, or the error is another: %v", err)
	}
}
