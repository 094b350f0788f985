package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// A visit takes the user to the provider, and returns the URL that the provider
// sent the browser back to.
type visit func(ctx context.Context, authURL string) (back string, err error)

// logIn gets tokens by the authorization code grant with PKCE (RFC 6749 section
// 4.1, RFC 7636).
func logIn(ctx context.Context, p *provider.Provider, e *transport.Endpoint, redirectURI string, v visit) (*tokencache.Record, error) {
	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	q := url.Values{}
	maps.Copy(q, p.AuthParams)
	q.Set("response_type", "code")
	q.Set("client_id", e.ClientID)
	q.Set("redirect_uri", redirectURI)
	q.Set("state", state)
	q.Set("code_challenge", oauth2.S256ChallengeFromVerifier(verifier))
	q.Set("code_challenge_method", "S256")
	if len(e.Scopes) > 0 {
		q.Set("scope", strings.Join(e.Scopes, " "))
	}
	sep := "?"
	if strings.Contains(p.AuthURL, "?") {
		sep = "&"
	}
	back, err := v(ctx, p.AuthURL+sep+q.Encode())
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(back)
	if err != nil || !strings.HasPrefix(back, redirectURI) {
		return nil, errors.New("login: that is not the URL which the provider redirects to: it begins with " + redirectURI)
	}
	answer := u.Query()
	switch iss := answer.Get("iss"); {
	case answer.Get("state") != state:
		return nil, errors.New("login: the answer belongs to another login; start again")
	case iss != p.Issuer && (iss != "" || p.SendsIss):
		return nil, errors.New("login: the answer is not from this provider (RFC 9207)")
	case answer.Get("error") != "":
		return nil, fmt.Errorf("login: the provider says %q: %q", answer.Get("error"), answer.Get("error_description"))
	}
	return e.Exchange(ctx, answer.Get("code"), verifier, redirectURI)
}

// visitAlone is a visit without user, for a provider that consents to everything.
func visitAlone(ctx context.Context, authURL string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, authURL, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // It follows no redirect.
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	back := resp.Header.Get("Location")
	if back == "" {
		return "", fmt.Errorf("login: the provider answered %s instead of a redirect", resp.Status)
	}
	return back, nil
}
