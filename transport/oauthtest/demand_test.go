package oauthtest_test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// C44, C45, C104: a challenge is satisfied by a login that asks for what it names, also after a
// refresh, and by no other.
func TestDemands(t *testing.T) {
	const claims = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	for name, tt := range map[string]struct {
		demand    func(*Server)
		status    int
		challenge string
		answer    url.Values
	}{
		"scope": {func(s *Server) { s.DemandScope("mail") }, 403, `Bearer realm="oauthtest", error="insufficient_scope", scope="mail"`,
			url.Values{"scope": {"api mail"}}},
		"authentication": {func(s *Server) { s.DemandAuthentication("gold silver", 5*time.Minute) }, 401,
			`Bearer realm="oauthtest", error="insufficient_user_authentication", acr_values="gold silver", max_age=300`,
			url.Values{"acr_values": {"silver gold"}}},
		"claims": {func(s *Server) { s.DemandClaims(claims) }, 401,
			`Bearer realm="oauthtest", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWUsInZhbHVlIjoiYzEifX19"`,
			url.Values{"claims": {claims}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, Scope: "openid api mail"})
				login := func(params url.Values) answer {
					back, _ := c.authorize(params)
					a, err := c.postPublic("/token", "grant_type", "authorization_code", "code", back.Get("code"), "redirect_uri", callback, "code_verifier", verifier)
					if err != nil || a.Status != 200 {
						t.Fatal(a.Status, a.Error, err)
					}
					return a
				}
				plain := login(url.Values{"scope": {"api"}})
				tt.demand(c.s)
				if a := c.call(plain.AccessToken, ""); a.Status != tt.status || a.Header.Get("WWW-Authenticate") != tt.challenge {
					t.Fatalf("status %d, %s", a.Status, a.Header.Get("WWW-Authenticate"))
				}
				if _, set := tt.answer["scope"]; !set {
					tt.answer.Set("scope", "api")
				}
				a := login(tt.answer)
				if got := c.call(a.AccessToken, ""); got.Status != 200 {
					t.Errorf("after the login: status %d, %s", got.Status, got.Header.Get("WWW-Authenticate"))
				}
				a, err := c.postPublic("/token", "grant_type", "refresh_token", "refresh_token", a.RefreshToken)
				if err != nil || c.call(a.AccessToken, "").Status != 200 {
					t.Errorf("after a refresh: %v", err)
				}
				if name != "authentication" {
					return
				}
				time.Sleep(5*time.Minute + time.Second)
				if a := c.call(a.AccessToken, ""); a.Status != 401 {
					t.Errorf("later: status %d", a.Status)
				}
			})
		})
	}
}

// The ID token says how the user was authenticated.
func TestDemandedAuthenticationIsInTheIDToken(t *testing.T) {
	c := inMemory(t, Config{AuthStyle: AuthNone, Scope: "openid api"})
	back, _ := c.authorize(url.Values{"acr_values": {"gold silver"}})
	a, err := c.postPublic("/token", "grant_type", "authorization_code", "code", back.Get("code"), "redirect_uri", callback, "code_verifier", verifier)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		ACR string `json:"acr"`
	}
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(a.IDToken, ".")[1])
	if err := json.Unmarshal(payload, &claims); err != nil || claims.ACR != "gold" {
		t.Errorf("acr is %q, %v", claims.ACR, err)
	}
}

// Claims that are no JSON object spend nothing.
func TestClaimsThatAreNoObject(t *testing.T) {
	c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone})
	if back, _ := c.authorize(url.Values{"claims": {"[]"}}); back.Get("error") != "invalid_request" {
		t.Errorf("%v", back)
	}
	tokens := c.s.Login("ann")
	a, err := c.postPublic("/token", "grant_type", "refresh_token", "refresh_token", tokens.RefreshToken, "claims", "[]")
	if err != nil || a.Error != "invalid_request" || !strings.Contains(a.Body, "JSON object") || !c.s.Valid(tokens.RefreshToken) {
		t.Errorf("%d %s %v", a.Status, a.Body, err)
	}
}
