package oauthtest_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport/internal/jws"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest/internal/jwt"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// A change makes one thing about a proof wrong.
type change func(header, claims map[string]any)

// prove signs a proof for a request.
func prove(t *testing.T, key crypto.Signer, req *http.Request, nonce, access string, changes ...change) string {
	t.Helper()
	u := *req.URL
	u.RawQuery = ""
	claims := map[string]any{"jti": rand.Text(), "htm": req.Method, "htu": u.String(), "iat": time.Now().Unix()}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if access != "" {
		sum := sha256.Sum256([]byte(access))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	jwk := testkit.JWK(key, "", "")
	for _, name := range []string{"alg", "use", "kid"} { // jose takes no empty alg.
		delete(jwk, name)
	}
	header := map[string]any{"typ": "dpop+jwt", "jwk": jwk}
	for _, change := range changes {
		change(header, claims)
	}
	proof, err := jws.Sign(key, "", header, claims)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// grant posts a form as a public client, with a proof unless there is no key.
func (c client) grant(key crypto.Signer, nonce string, form url.Values, changes ...change) answer {
	c.t.Helper()
	form.Set("client_id", c.s.ClientID())
	req, err := http.NewRequestWithContext(c.t.Context(), "POST", c.s.TokenURL(), strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if key != nil {
		req.Header.Set("DPoP", prove(c.t, key, req, nonce, "", changes...))
	}
	a, err := c.send(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func spend(refreshToken string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
}

// bound calls the API at a path that has to be escaped.
func (c client) bound(scheme, access string, key crypto.Signer, nonce string, changes ...change) answer {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), "GET", c.s.APIURL()+"/a%20b%2Fc?q=1", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", scheme+" "+access)
	if key != nil {
		req.Header.Set("DPoP", prove(c.t, key, req, nonce, access, changes...))
	}
	a, err := c.send(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// challenges returns the parts of an answer that say why.
func challenges(a answer) string {
	return a.Body + strings.Join(a.Header.Values("WWW-Authenticate"), "; ")
}

// Tokens are bound to the key that was proven, and the refresh tokens of a public client as
// well, for the whole life of the login (C39, C59): another key, or none, spends nothing.
func TestTokensAreBound(t *testing.T) {
	key, other := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "EdDSA")
	c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, DPoP: DPoP{Mode: DPoPOptional}})
	tokens := c.s.LoginBound("alice", key.Public())
	if tokens.Thumbprint != jwt.Thumbprint(key.Public()) || tokens.Record().TokenType != "DPoP" || c.s.Current("alice").Thumbprint != tokens.Thumbprint {
		t.Errorf("%q", tokens.Thumbprint)
	}
	for range 3 {
		for name, wrong := range map[string]crypto.Signer{"another key": other, "no key": nil} {
			if a := c.grant(wrong, "", spend(tokens.RefreshToken)); a.Error != "invalid_grant" {
				t.Errorf("%s: %d %s", name, a.Status, a.Body)
			}
		}
		if a := c.bound("DPoP", tokens.AccessToken, other, ""); a.Status != 401 || !strings.Contains(challenges(a), "invalid_token") {
			t.Errorf("another key: %d %s", a.Status, challenges(a))
		}
		if a := c.bound("DPoP", tokens.AccessToken, key, ""); a.Status != 200 {
			t.Errorf("%d %s", a.Status, challenges(a))
		}
		a := c.grant(key, "", spend(tokens.RefreshToken))
		if a.Status != 200 || !strings.Contains(a.Body, `"token_type":"DPoP"`) {
			t.Fatalf("%d %s", a.Status, a.Error)
		}
		tokens.AccessToken, tokens.RefreshToken = a.AccessToken, a.RefreshToken
	}
	if n := c.s.Counts(); n.Rotations != 3 || n.Reuses != 0 || n.Downgrades != 0 {
		t.Errorf("%+v", n)
	}
}

// Where a wrong proof ends the login, revocation needs the right one.
func TestUnforgiving(t *testing.T) {
	key, other := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "EdDSA")
	c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, DPoP: DPoP{Mode: DPoPRequired, TokenNonces: true, Unforgiving: true}})
	nonce := c.grant(key, "", spend("none")).Header.Get("DPoP-Nonce")
	login := c.s.LoginBound("alice", key.Public())
	if a := c.grant(other, nonce, spend(login.RefreshToken)); a.Error != "invalid_grant" || c.s.Valid(login.RefreshToken) || c.s.Valid(login.AccessToken) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	login = c.s.LoginBound("alice", key.Public())
	for _, tt := range []struct {
		key    crypto.Signer
		status int
		valid  bool
	}{{nil, 400, true}, {other, 200, true}, {key, 200, false}} {
		req, _ := http.NewRequest("POST", c.s.URL()+"/revoke", strings.NewReader("client_id=client&token="+login.RefreshToken))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if tt.key != nil {
			req.Header.Set("DPoP", prove(t, tt.key, req, nonce, ""))
		}
		if a, err := c.send(req); err != nil || a.Status != tt.status || c.s.Valid(login.RefreshToken) != tt.valid {
			t.Errorf("revocation: %d %s, %v; valid: %t", a.Status, a.Body, err, c.s.Valid(login.RefreshToken))
		}
	}
}

// A bound token is no bearer token, though the API takes those too (C62), and a bearer token
// cannot be proven.
func TestDowngrade(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, DPoP: DPoP{Mode: DPoPOptional}})
	login, bearer := c.s.LoginBound("alice", key.Public()), c.s.Login("bob")
	a := c.bound("Bearer", login.AccessToken, nil, "")
	if want := []string{`Bearer realm="oauthtest", error="invalid_token", error_description="expired, revoked or unknown"`,
		`DPoP realm="oauthtest", algs="ES256 PS256 EdDSA Ed25519"`}; a.Status != 401 || !slices.Equal(a.Header.Values("WWW-Authenticate"), want) {
		t.Errorf("%d %s", a.Status, challenges(a))
	}
	if n := c.s.Counts().Downgrades; n != 1 {
		t.Errorf("%d downgrades", n)
	}
	if a := c.bound("Bearer", bearer.AccessToken, nil, ""); a.Status != 200 {
		t.Errorf("%d %s", a.Status, challenges(a))
	}
	if a := c.bound("DPoP", bearer.AccessToken, key, ""); a.Status != 401 {
		t.Errorf("bearer token with a proof: %d", a.Status)
	}
	// Without the key of the login there is no way round.
	if a := c.grant(nil, "", spend(login.RefreshToken)); a.Error != "invalid_grant" || !c.s.Valid(login.RefreshToken) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// A server that ignores proofs answers with bearer tokens, and takes no others (C62).
func TestDPoPIgnored(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone})
	a := c.grant(key, "", spend(c.s.Login("alice").RefreshToken), func(_, claims map[string]any) { delete(claims, "htu") })
	if a.Status != 200 || !strings.Contains(a.Body, `"token_type":"Bearer"`) || c.s.Counts().Proofs != 0 {
		t.Errorf("%d %s, %+v", a.Status, a.Error, c.s.Counts())
	}
	if b := c.bound("DPoP", a.AccessToken, key, ""); b.Status != 401 || b.Header.Get("WWW-Authenticate") != `Bearer realm="oauthtest"` {
		t.Errorf("%d %s", b.Status, challenges(b))
	}
	back, _ := c.authorize(url.Values{"dpop_jkt": {jwt.Thumbprint(key.Public())}})
	a = c.grant(nil, "", url.Values{"grant_type": {"authorization_code"}, "code": back["code"], "redirect_uri": {callback}, "code_verifier": {verifier}})
	if a.Status != 200 {
		t.Errorf("a code: %d %s", a.Status, a.Error)
	}
}

// The token endpoint and the API have nonces of their own, hand out the next one with each
// answer, and accept the one before for as long again (C41 to C43, C64, C65).
func TestNonces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := testkit.NewKey(t, "ES256")
		c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, DPoP: DPoP{Mode: DPoPRequired, TokenNonces: true, APINonces: true}})
		login := c.s.LoginBound("alice", key.Public())
		call := func(nonce, says string) string {
			t.Helper()
			a := c.bound("DPoP", login.AccessToken, key, nonce)
			if says == "" && a.Status != 200 || says != "" && (a.Status != 401 || !strings.Contains(challenges(a), `error="`+says+`"`)) {
				t.Errorf("%d %s, want %q", a.Status, challenges(a), says)
			}
			return a.Header.Get("DPoP-Nonce")
		}
		refresh := func(nonce, says string) string {
			t.Helper()
			a := c.grant(key, nonce, spend(login.RefreshToken))
			if a.Error != says {
				t.Fatalf("%d %s, want %q", a.Status, a.Error, says)
			}
			if says == "" {
				login.AccessToken, login.RefreshToken = a.AccessToken, a.RefreshToken
			}
			return a.Header.Get("DPoP-Nonce")
		}
		api, token := call("", "use_dpop_nonce"), refresh("", "use_dpop_nonce")
		if api == "" || token == "" || api == token {
			t.Fatalf("nonces %q and %q", api, token)
		}
		call(token, "use_dpop_nonce")
		refresh(api, "use_dpop_nonce")
		if call(api, "") != api || refresh(token, "") != token {
			t.Error("not the same nonce within a minute")
		}
		time.Sleep(time.Minute)
		nextAPI, nextToken := call(api, ""), refresh(token, "")
		if nextAPI == api || nextToken == token {
			t.Error("the same nonce after a minute")
		}
		time.Sleep(59 * time.Second)
		call(nextAPI, "")
		call(api, "") // for as long again
		time.Sleep(time.Second)
		call(api, "use_dpop_nonce")
		refresh(token, "use_dpop_nonce")
		refresh(nextToken, "")
		time.Sleep(time.Hour)
		api = call(nextAPI, "use_dpop_nonce")
		c.s.RotateNonces()
		call(api, "use_dpop_nonce")
		if n := c.s.Counts(); n.NonceChallenges != 8 || n.APINonceChallenges != 5 || n.StrayNonces != 2 || n.BadProofs != 0 || n.Rotations != 3 {
			t.Errorf("%+v", n)
		}
		// Revocation has no proof, and its answer a nonce all the same.
		if a, err := c.postPublic("/revoke", "token", login.RefreshToken); err != nil || a.Status != 200 || a.Header.Get("DPoP-Nonce") == "" {
			t.Errorf("revocation: %d, %v", a.Status, err)
		}
	})
}

// A server whose clock is another one says so with each answer, and wants proofs of its time
// (C67), whichever way it is reached.
func TestAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := testkit.NewKey(t, "ES256")
		for _, ahead := range []time.Duration{5 * time.Minute, -5 * time.Minute} {
			c := inMemory(t, Config{AuthStyle: AuthNone, Ahead: ahead, DPoP: DPoP{Mode: DPoPRequired, Window: 10 * time.Second}})
			login := c.s.LoginBound("alice", key.Public())
			for name, rt := range map[string]http.RoundTripper{"memory": c.rt, "direct": c.s.Direct()} {
				c := client{t, c.s, rt}
				a := c.bound("DPoP", login.AccessToken, key, "")
				date, err := http.ParseTime(a.Header.Get("Date"))
				if off := time.Until(date) - ahead; err != nil || off.Abs() > time.Second || a.Status != 401 || !strings.Contains(challenges(a), "iat") {
					t.Errorf("%s: %d %s, off by %v, %v", name, a.Status, challenges(a), off, err)
				}
				corrected := func(_, claims map[string]any) { claims["iat"] = date.Unix() }
				if a := c.bound("DPoP", login.AccessToken, key, "", corrected); a.Status != 200 {
					t.Errorf("%s: %d %s", name, a.Status, challenges(a))
				}
				if a := c.grant(key, "", spend(login.RefreshToken), corrected); a.Status != 200 {
					t.Errorf("%s: %d %s", name, a.Status, a.Body)
				}
			}
		}
	})
}

// The code goes to the key whose thumbprint the authorization request had, pushed or not, and to
// no other (C68, C69).
func TestCodeIsBound(t *testing.T) {
	key, other := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "EdDSA")
	jkt := jwt.Thumbprint(key.Public())
	c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, DPoP: DPoP{Mode: DPoPOptional, TokenNonces: true}})
	push := func(proof bool, params url.Values) answer {
		sum := sha256.Sum256([]byte(verifier))
		form := url.Values{"client_id": {"client"}, "response_type": {"code"}, "redirect_uri": {callback}, "login_hint": {"alice"},
			"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
		for name, values := range params {
			form[name] = values
		}
		send := func(nonce string) answer {
			req, _ := http.NewRequest("POST", c.s.URL()+"/par", strings.NewReader(form.Encode()))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if proof {
				req.Header.Set("DPoP", prove(t, key, req, nonce, ""))
			}
			a, err := c.send(req)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		a := send("")
		if a.Error == "use_dpop_nonce" {
			a = send(a.Header.Get("DPoP-Nonce"))
		}
		return a
	}
	pushedURI := func(a answer) url.Values {
		uri := between(a.Body, `"request_uri":"`, `"`)
		if a.Status != 201 || uri == "" {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		return url.Values{"request_uri": {uri}}
	}
	nonce := c.grant(key, "", spend("none")).Header.Get("DPoP-Nonce")
	for name, begin := range map[string]func() url.Values{
		"dpop_jkt":        func() url.Values { return url.Values{"dpop_jkt": {jkt}} },
		"pushed dpop_jkt": func() url.Values { return pushedURI(push(false, url.Values{"dpop_jkt": {jkt}})) },
		"pushed proof":    func() url.Values { return pushedURI(push(true, nil)) },
		"pushed both":     func() url.Values { return pushedURI(push(true, url.Values{"dpop_jkt": {jkt}})) },
	} {
		params := begin()
		back, _ := c.authorize(params)
		code := url.Values{"grant_type": {"authorization_code"}, "code": back["code"], "redirect_uri": {callback}, "code_verifier": {verifier}}
		for _, wrong := range []crypto.Signer{nil, other} {
			if a := c.grant(wrong, nonce, code); a.Error != "invalid_grant" {
				t.Errorf("%s, wrong key: %d %s", name, a.Status, a.Body)
			}
		}
		if a := c.grant(key, nonce, code); a.Status != 200 || !strings.Contains(a.Body, `"token_type":"DPoP"`) || c.s.Current("alice").Thumbprint != jkt {
			t.Errorf("%s: %d %s", name, a.Status, a.Error)
		}
		if _, status := c.authorize(params); params.Has("request_uri") && status != 400 {
			t.Errorf("%s: request_uri was good for a second request", name)
		}
	}
	if a := push(true, url.Values{"dpop_jkt": {jwt.Thumbprint(other.Public())}}); a.Error != "invalid_dpop_proof" {
		t.Errorf("dpop_jkt of another key: %d %s", a.Status, a.Body)
	}
	if a := push(false, url.Values{"request_uri": {"urn:x"}}); a.Error != "invalid_request" {
		t.Errorf("request_uri pushed: %d %s", a.Status, a.Body)
	}
}

// between returns what stands between two texts, or nothing.
func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

// The metadata say which algorithms there are, and others are refused (C55).
func TestDPoPAlgorithms(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	for _, tt := range []struct {
		dpop DPoP
		want string
	}{
		{DPoP{}, ""},
		{DPoP{Mode: DPoPOptional}, `"dpop_signing_alg_values_supported":["ES256","PS256","EdDSA","Ed25519"]`},
		{DPoP{Mode: DPoPRequired, Algorithms: []string{"ES384"}}, `"dpop_signing_alg_values_supported":["ES384"]`},
	} {
		c := inMemory(t, Config{AuthStyle: AuthNone, DPoP: tt.dpop})
		req, _ := http.NewRequest("GET", c.s.URL()+"/.well-known/oauth-authorization-server", nil)
		a, err := c.send(req)
		if got := strings.Contains(a.Body, "dpop_"); err != nil || got != (tt.want != "") || !strings.Contains(a.Body, tt.want) {
			t.Errorf("%s, %v; want %s", a.Body, err, tt.want)
		}
		if a := c.grant(key, "", spend(c.s.Login("alice").RefreshToken)); (a.Error != "") != (tt.dpop.Algorithms != nil) {
			t.Errorf("%+v: %d %s", tt.dpop, a.Status, a.Body)
		}
	}
}

// A client that shows who it is in another way may have another key for each access token (RFC
// 9449 section 5).
func TestConfidentialClientsAreNotBound(t *testing.T) {
	c := inMemory(t, Config{Policy: StrictFamily, DPoP: DPoP{Mode: DPoPOptional}})
	login := c.s.LoginBound("alice", testkit.NewKey(t, "ES256").Public())
	if a := c.refresh(login.RefreshToken); a.Status != 200 || !strings.Contains(a.Body, `"token_type":"Bearer"`) {
		t.Errorf("%d %s", a.Status, a.Error)
	}
}
