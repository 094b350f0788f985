package oauthtest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// Exactly one way of client authentication is accepted, and the parameters only
// where RFC 6749 wants them. Nothing that is refused here spends the token.
func TestTokenRequestChecks(t *testing.T) {
	const basic, wrong, body, public, both = "basic", "wrong secret", "body", "public", "both"
	const ok, client, request = "", "invalid_client", "invalid_request"
	tests := []struct {
		name  string
		style AuthStyle
		auth  string
		edit  func(r *http.Request)
		want  string
	}{
		{"basic", AuthBasic, basic, nil, ok},
		{"basic, wrong secret", AuthBasic, wrong, nil, client},
		{"basic, secret in body", AuthBasic, body, nil, client},
		{"basic, no secret", AuthBasic, public, nil, client},
		{"post", AuthPost, body, nil, ok},
		{"post, basic", AuthPost, basic, nil, client},
		{"none", AuthNone, public, nil, ok},
		{"none, basic", AuthNone, basic, nil, client},
		{"both", AuthBasic, both, nil, request},
		{"not encoded", AuthBasic, basic, func(r *http.Request) { r.SetBasicAuth("my client", "s%:+ ") }, client},
		{"in the URI", AuthBasic, basic, func(r *http.Request) { r.URL.RawQuery = "grant_type=refresh_token" }, request},
		{"GET", AuthBasic, basic, func(r *http.Request) { r.Method, r.Body, r.ContentLength = "GET", nil, 0 }, request},
		{"JSON", AuthBasic, basic, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, request},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := inMemory(t, Config{Policy: Strict, AuthStyle: tt.style, ClientID: "my client", ClientSecret: "s%:+ "})
			token := c.s.Login("alice").RefreshToken
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
			if tt.auth == body || tt.auth == public || tt.auth == both {
				form.Set("client_id", "my client")
			}
			if tt.auth == body || tt.auth == both {
				form.Set("client_secret", "s%:+ ")
			}
			req, _ := http.NewRequest("POST", c.s.TokenURL(), strings.NewReader(form.Encode()))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			switch tt.auth {
			case basic, both:
				req.SetBasicAuth("my+client", url.QueryEscape("s%:+ "))
			case wrong:
				req.SetBasicAuth("my+client", "guess")
			}
			if tt.edit != nil {
				tt.edit(req)
			}
			a, err := c.send(req)
			if err != nil || a.Error != tt.want {
				t.Fatalf("%d %q, %v; want %q", a.Status, a.Error, err, tt.want)
			}
			if challenged := a.Header.Get("WWW-Authenticate") != ""; challenged != (tt.want == client) || challenged != (a.Status == 401) {
				t.Errorf("status %d, WWW-Authenticate %v", a.Status, challenged)
			}
			if (tt.want == ok) == c.s.Valid(token) {
				t.Error("spent although refused, or not spent although accepted")
			}
		})
	}
}

func TestGrants(t *testing.T) {
	c := inMemory(t, Config{Scope: "read write"})
	tests := []struct {
		name   string
		params []string
		want   string // error, or else scope
	}{
		{"refresh", []string{"grant_type", "refresh_token"}, "read write"},
		{"refresh, narrower", []string{"grant_type", "refresh_token", "scope", "read"}, "read"},
		{"refresh, wider", []string{"grant_type", "refresh_token", "scope", "read admin"}, "invalid_scope"},
		{"client credentials", []string{"grant_type", "client_credentials"}, "read write"},
		{"client credentials, narrower", []string{"grant_type", "client_credentials", "scope", "write"}, "write"},
		{"client credentials, wider", []string{"grant_type", "client_credentials", "scope", "admin"}, "invalid_scope"},
		{"password", []string{"grant_type", "password"}, "unsupported_grant_type"},
		{"none", nil, "invalid_request"},
		{"repeated", []string{"grant_type", "refresh_token", "grant_type", "refresh_token"}, "invalid_request"},
		{"resources", []string{"grant_type", "refresh_token", "resource", "https://a", "resource", "https://b"}, "read write"},
	}
	token := c.s.Login("alice").RefreshToken
	for _, tt := range tests {
		a, err := c.post("/token", append(tt.params, "refresh_token", token)...)
		if err != nil || a.Error+a.Scope != tt.want || (a.Status == 200) != (a.AccessToken != "") {
			t.Errorf("%s: %d %s %s, %v", tt.name, a.Status, a.Error, a.Scope, err)
		}
		if a.RefreshToken != "" {
			t.Errorf("%s: a refresh token", tt.name)
		}
	}
	p := inMemory(t, Config{AuthStyle: AuthNone})
	a, err := p.postPublic("/token", "grant_type", "client_credentials")
	if err != nil || a.Error != "unauthorized_client" {
		t.Error("a public client has no credentials:", a.Status, a.Error, err)
	}
}

func TestLifetimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, Config{Policy: StrictFamily, AccessTTL: time.Minute, RefreshTTL: time.Hour})
		login := c.s.Login("alice")
		time.Sleep(time.Minute - time.Nanosecond)
		if a := c.call(login.AccessToken, ""); a.Status != 200 || !c.s.Valid(login.AccessToken) {
			t.Error("too early:", a.Status)
		}
		time.Sleep(time.Nanosecond)
		if a := c.call(login.AccessToken, ""); a.Status != 401 || c.s.Valid(login.AccessToken) {
			t.Error("too late:", a.Status)
		}
		a := c.refresh(login.RefreshToken)
		if *a.ExpiresIn != 60 || !strings.Contains(a.Body, `"refresh_token_expires_in":3540`) {
			t.Error(a.Body)
		}
		time.Sleep(59 * time.Minute) // Refreshing did not prolong the login.
		if b := c.refresh(a.RefreshToken); b.Error != "invalid_grant" || c.s.Counts().Reuses != 0 {
			t.Error("the login outlives RefreshTTL:", b.Status)
		}
		silent := inMemory(t, Config{NoExpiresIn: true})
		if a := silent.refresh(silent.s.Login("alice").RefreshToken); a.ExpiresIn != nil {
			t.Error("expires_in although NoExpiresIn")
		}
	})
}

// The API's clock is ten minutes ahead, or behind.
func TestSkew(t *testing.T) {
	for _, skew := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			c := inMemory(t, Config{Skew: skew})
			token := c.s.Login("alice").AccessToken
			time.Sleep(time.Hour - skew - time.Nanosecond)
			if a := c.call(token, ""); a.Status != 200 {
				t.Error("before:", a.Status)
			}
			time.Sleep(time.Nanosecond)
			if a := c.call(token, ""); a.Status != 401 {
				t.Error("after:", a.Status)
			}
		})
	}
}

func TestGraceSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, policy := range []Policy{Grace, SecondToLastKills} {
			c := inMemory(t, Config{Policy: policy, GraceSame: true})
			login := c.s.Login("alice")
			first := c.refresh(login.RefreshToken)
			time.Sleep(10 * time.Second)
			second := c.refresh(login.RefreshToken)
			if first.RefreshToken != second.RefreshToken || first.AccessToken != second.AccessToken || *second.ExpiresIn != *first.ExpiresIn-10 {
				t.Error("not the same answer")
			}
			if a := c.refresh(second.RefreshToken); a.Status != 200 {
				t.Error(a.Status, a.Error)
			}
		}
	})
}

func TestRevocation(t *testing.T) {
	c := inMemory(t, Config{Policy: StrictFamily})
	one, two := c.s.Login("alice"), c.s.Login("alice")
	for _, token := range []string{"unknown", one.AccessToken, two.RefreshToken} {
		if a, err := c.post("/revoke", "token", token); err != nil || a.Status != 200 {
			t.Error(a.Status, err)
		}
	}
	if c.s.Valid(one.AccessToken) || !c.s.Valid(one.RefreshToken) {
		t.Error("revoking an access token is to end only it")
	}
	if c.s.Valid(two.AccessToken) || c.s.Valid(two.RefreshToken) {
		t.Error("revoking a refresh token is to end the login")
	}
	if a, err := c.post("/revoke"); err != nil || a.Error != "invalid_request" {
		t.Error(a.Status, err)
	}
	if a, err := c.postPublic("/revoke", "token", one.RefreshToken); err != nil || a.Error != "invalid_client" || !c.s.Valid(one.RefreshToken) {
		t.Error("revoked without client authentication:", a.Status, err)
	}
	if n := c.s.Counts().Revocations; n != 5 {
		t.Error("revocations:", n)
	}

	// The same from the server's side.
	three, four := c.s.Login("bob"), c.s.Login("bob")
	c.s.RevokeAccess(three.AccessToken)
	if c.s.Valid(three.AccessToken) || !c.s.Valid(three.RefreshToken) {
		t.Error("RevokeAccess")
	}
	c.s.RevokeFamily(four.AccessToken)
	if c.s.Valid(four.AccessToken) || c.s.Valid(four.RefreshToken) || c.refresh(four.RefreshToken).Error != "invalid_grant" {
		t.Error("RevokeFamily")
	}
	if n := c.s.Counts(); n.Reuses != 0 || n.FamiliesRevoked != 0 {
		t.Errorf("not a reuse: %+v", n)
	}
}

func TestIDToken(t *testing.T) {
	c := inMemory(t, Config{Scope: "openid api"})
	a := c.refresh(c.s.Login("alice").RefreshToken)
	parts := strings.Split(a.IDToken, ".")
	if len(parts) != 3 {
		t.Fatal("no ID token")
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ Iss, Sub, Aud string }
	if err != nil || json.Unmarshal(body, &claims) != nil || claims.Iss != c.s.URL() || claims.Sub != "alice" || claims.Aud != c.s.ClientID() {
		t.Errorf("claims %+v, %v", claims, err)
	}
	mac := hmac.New(sha256.New, []byte(c.s.ClientSecret()))
	mac.Write([]byte(parts[0] + "." + parts[1]))
	if base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) != parts[2] {
		t.Error("signature")
	}
}

// Secrets is complete: nothing secret is issued that it does not list.
func TestSecrets(t *testing.T) {
	c := inMemory(t, Config{Policy: KeepOld, Scope: "openid"})
	login := c.s.Login("alice")
	a := c.refresh(login.RefreshToken)
	known := map[string]bool{}
	for _, s := range c.s.Secrets() {
		if len(s) < 20 || known[s] {
			t.Error("a secret is short or listed twice")
		}
		known[s] = true
	}
	for _, s := range []string{login.AccessToken, login.RefreshToken, login.IDToken, a.AccessToken, a.RefreshToken, a.IDToken, c.s.ClientSecret()} {
		if !known[s] {
			t.Errorf("%.3s is not listed", s)
		}
	}
	if cur := c.s.Current("alice"); cur.RefreshToken != a.RefreshToken || cur.AccessToken != a.AccessToken {
		t.Error("Current is not the last answer")
	}
}
