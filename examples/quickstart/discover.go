package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport/provider"
)

// discover reads what the provider says about itself: the authorization server
// metadata of RFC 8414, or that of OpenID Connect Discovery.
func discover(ctx context.Context, issuer string) (*provider.Provider, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, err
	}
	path := strings.TrimSuffix(u.Path, "/")
	u.Path = "/.well-known/oauth-authorization-server" + path
	p, err := metadata(ctx, issuer, u.String())
	if err != nil {
		u.Path = path + "/.well-known/openid-configuration"
		p, err = metadata(ctx, issuer, u.String())
	}
	return p, err
}

func metadata(ctx context.Context, issuer, from string) (*provider.Provider, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // It follows no redirect.
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("discovery: %s answered %s; is -issuer right?", from, resp.Status)
	}
	var m struct {
		Issuer   string   `json:"issuer"`
		Auth     string   `json:"authorization_endpoint"`
		Token    string   `json:"token_endpoint"`
		Revoke   string   `json:"revocation_endpoint"`
		Methods  []string `json:"token_endpoint_auth_methods_supported"`
		SendsIss bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&m); err != nil {
		return nil, fmt.Errorf("discovery: %s is not JSON: %w", from, err)
	}
	if m.Issuer != issuer { // RFC 8414 section 3.3
		return nil, fmt.Errorf("discovery: the provider calls itself %q; use that as -issuer if you trust it", m.Issuer)
	}
	if m.Auth == "" || m.Token == "" {
		return nil, fmt.Errorf("discovery: the provider at %s has no authorization code grant", issuer)
	}
	p := &provider.Provider{
		Issuer: issuer, AuthURL: m.Auth, TokenURL: m.Token, RevocationURL: m.Revoke,
		SendsIss: m.SendsIss, AuthStyle: oauth2.AuthStyleInHeader,
	}
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, "client_secret_basic") {
		p.AuthStyle = oauth2.AuthStyleInParams
	}
	return p, nil
}
