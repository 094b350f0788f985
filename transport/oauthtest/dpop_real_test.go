package oauthtest_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest/internal/jwt"
)

// A realServer has a public client whose tokens are all bound to a key.
type realServer struct {
	t      *testing.T
	key    crypto.Signer
	client string
	token  string // URL of the token endpoint
	api    string
	ahead  time.Duration // of its clock
	nonce  string        // the last one

	unforgiving bool // another key ends the login
}

// send sends a form to the token endpoint, or without one, a call to the API, with a proof.
func (s *realServer) send(key crypto.Signer, form url.Values, access string, changes ...change) answer {
	s.t.Helper()
	method, target := http.MethodPost, s.token
	if form == nil {
		method, target = http.MethodGet, s.api
	} else {
		form.Set("client_id", s.client)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	if form == nil {
		req.Header.Set("Authorization", "DPoP "+access)
	} else {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	nonce := s.nonce
	now := func(_, claims map[string]any) { claims["iat"] = time.Now().Add(s.ahead).Unix() }
	req.Header.Set("DPoP", prove(s.t, key, req, nonce, access, append([]change{now}, changes...)...))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	body.ReadFrom(resp.Body)
	a := answer{Status: resp.StatusCode, Header: resp.Header, Body: body.String()}
	json.Unmarshal(body.Bytes(), &a)
	if next := resp.Header.Get("DPoP-Nonce"); next != "" {
		s.nonce = next
	}
	return a
}

// refused: what the Server of this package refuses, and what real ones say.
func (s *realServer) refused(what string, a answer, codes ...string) {
	s.t.Helper()
	for _, code := range codes {
		if a.Status/100 == 4 && (a.Error == code || strings.Contains(a.Header.Get("WWW-Authenticate"), code)) {
			return
		}
	}
	s.t.Errorf("%s: %d %s, want %s", what, a.Status, challenges(a), strings.Join(codes, " or "))
}

// life goes through a login, with what has to be refused in between.
func (s *realServer) life(refresh string) string {
	s.t.Helper()
	other := testkit.NewKey(s.t, "ES256")
	claim := func(name string, value any) change { return func(_, claims map[string]any) { claims[name] = value } }
	for range 3 {
		if !s.unforgiving {
			s.refused("another key", s.send(other, spend(refresh), ""), "invalid_grant")
		}
		s.refused("another method", s.send(s.key, spend(refresh), "", claim("htm", "GET")), "invalid_dpop_proof", "invalid_request")
		s.refused("another URL", s.send(s.key, spend(refresh), "", claim("htu", s.api)), "invalid_dpop_proof", "invalid_request")
		a := s.send(s.key, spend(refresh), "")
		if a.Status != 200 || a.RefreshToken == "" || !strings.Contains(a.Body, `"token_type":"DPoP"`) {
			s.t.Fatalf("%d %s", a.Status, a.Error)
		}
		refresh = a.RefreshToken
		if b := s.send(s.key, nil, a.AccessToken); b.Status != 200 {
			s.t.Errorf("API: %d %s", b.Status, challenges(b))
		}
		same := claim("jti", "0123456789abcdef"+a.AccessToken[len(a.AccessToken)-16:])
		s.send(s.key, nil, a.AccessToken, same)
		s.refused("the same proof", s.send(s.key, nil, a.AccessToken, same), "invalid_token", "invalid_dpop_proof")
		s.refused("another key at the API", s.send(other, nil, a.AccessToken), "invalid_token", "invalid_dpop_proof")
		s.refused("another ath", s.send(s.key, nil, a.AccessToken, claim("ath", "AA")), "invalid_token", "invalid_dpop_proof")
	}
	return refresh
}

// What the Server does with proofs is what a certified server does that insists on nonces, and
// has another clock.
func TestDPoPOfOIDCProvider(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	for _, ahead := range []string{"0", "300", "-300"} {
		t.Run(ahead, func(t *testing.T) {
			p := realparts.OIDCProvider(t, "--dpop-nonce", realparts.BoundClient("bound"), "--clock-ahead="+ahead)
			login := p.MintBound(realparts.Client{ID: "bound"}, "alice", jwt.Thumbprint(key.Public()))
			seconds, _ := time.ParseDuration(ahead + "s")
			s := &realServer{t: t, key: key, client: "bound", token: p.Issuer + "/token", api: p.UserInfo, ahead: seconds}
			a := s.send(key, spend(login.RefreshToken), "")
			s.refused("no nonce", a, "use_dpop_nonce")
			date, err := http.ParseTime(a.Header.Get("Date"))
			if off := time.Until(date) - seconds; err != nil || off.Abs() > 5*time.Second {
				t.Errorf("Date is off by %v, %v", off, err)
			}
			s.life(login.RefreshToken)
			if c := p.Counts(); c.Reuses != 0 || c.Revoked != 0 || c.Proofs == 0 || c.RepeatedProofs != 3 || c.APICalls != 6 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// And of the server that Bluesky's users have, where requests are pushed, and which judges the
// time of proofs although they have nonces.
func TestDPoPOfAtproto(t *testing.T) {
	const ahead = -5 * time.Minute
	key := testkit.NewKey(t, "ES256")
	p := realparts.AtprotoProvider(t, "--clock-ahead=-300")
	s := &realServer{t: t, key: key, client: p.Public.ID, token: p.Issuer + "/oauth/par", api: p.API, ahead: ahead, unforgiving: true}
	sum := sha256.Sum256([]byte(verifier))
	request := url.Values{"response_type": {"code"}, "redirect_uri": {"http://127.0.0.1:7777/cb"}, "scope": {"atproto"}, "state": {"st"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	s.refused("no nonce", s.send(key, request, ""), "use_dpop_nonce")
	s.refused("time of this machine", s.send(key, request, "", func(_, claims map[string]any) { claims["iat"] = time.Now().Unix() }), "invalid_dpop_proof")
	a := s.send(key, request, "")
	pushed := between(a.Body, `"request_uri":"`, `"`)
	if a.Status != 201 || pushed == "" {
		t.Fatalf("PAR: %d %s", a.Status, a.Error)
	}
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(p.Issuer + "/oauth/authorize?" + url.Values{"client_id": {s.client}, "request_uri": {pushed}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	s.token = p.Issuer + "/oauth/token"
	code := url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {"http://127.0.0.1:7777/cb"}, "code_verifier": {verifier}}
	if a = s.send(key, code, ""); a.Status != 200 || !strings.Contains(a.Body, `"token_type":"DPoP"`) {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	refresh := s.life(a.RefreshToken)
	if c := p.Counts(); c.Reuses != 0 || c.Revoked != 0 || c.RepeatedProofs != 3 || c.APICalls != 6 {
		t.Errorf("%+v", c)
	}
	other := testkit.NewKey(t, "ES256")
	s.refused("another key", s.send(other, spend(refresh), ""), "invalid_grant")
	s.refused("after another key", s.send(key, spend(refresh), ""), "invalid_grant")
	if c := p.Counts(); c.Reuses != 0 || c.Revoked != 1 {
		t.Errorf("%+v", c)
	}
}
