package endpoint

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// A script is a provider that gives its answers in turn, the last one again and again.
type script struct {
	answers []string // HTTP, from the status on
	proofs  []map[string]any
	forms   []url.Values
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	answer := s.answers[min(len(s.forms), len(s.answers)-1)]
	s.forms, s.proofs = append(s.forms, form), append(s.proofs, proofOf(req))
	return testkit.Replay([]byte("HTTP/1.1 " + answer)).RoundTrip(req)
}

// proofOf returns what the proof of a request says, or nil.
func proofOf(req *http.Request) (claims map[string]any) {
	if parts := strings.Split(req.Header.Get("DPoP"), "."); len(parts) == 3 {
		raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
		json.Unmarshal(raw, &claims)
	}
	return claims
}

const (
	isBound    = "200 OK\nContent-Type: application/json\n\n" + `{"access_token":"a2","token_type":"DPoP","refresh_token":"r2","expires_in":60}`
	isBearer   = "200 OK\nContent-Type: application/json\n\n" + `{"access_token":"a2","token_type":"Bearer","refresh_token":"r2","expires_in":60}`
	askForNone = "400 Bad Request\nContent-Type: application/json\n\n" + `{"error":"use_dpop_nonce"}`
)

// refusal is an answer with an error code, and with headers.
func refusal(code string, header ...string) string {
	return "400 Bad Request\nContent-Type: application/json\n" + strings.Join(header, "\n") + "\n\n" + `{"error":"` + code + `"}`
}

func dateHeader(ahead time.Duration) string {
	return "Date: " + time.Now().Add(ahead).UTC().Format(http.TimeFormat)
}

func boundEndpoint(s *script) *Endpoint {
	return &Endpoint{TokenURL: "https://as.test/token", ClientID: "client", DPoP: new(DPoP), Base: s}
}

// boundRecord is a login that is bound to a key of its own.
func boundRecord(t *testing.T) *tokencache.Record {
	t.Helper()
	k, err := dpop.Generate()
	if err != nil {
		t.Fatal(err)
	}
	rec := &tokencache.Record{TokenURL: "https://as.test/token", AccessToken: "a1", TokenType: "DPoP", RefreshToken: "r1"}
	rec.Bind(k.Private, k.Thumbprint)
	return rec
}

// A refused proof costs one more request with the same refresh token, and never the login: with
// another nonce (C63) or another time (C67), or else none at all.
func TestProofsThatAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		answers  []string
		requests int
		kind     error
	}{
		"accepted":                               {[]string{isBound}, 1, nil},
		"a nonce":                                {[]string{refusal("use_dpop_nonce", "DPoP-Nonce: n1"), isBound}, 2, nil},
		"a nonce, with 401":                      {[]string{strings.Replace(refusal("use_dpop_nonce", "DPoP-Nonce: n1"), "400", "401", 1), isBound}, 2, nil},
		"a nonce, again and again":               {[]string{refusal("use_dpop_nonce", "DPoP-Nonce: n1"), refusal("use_dpop_nonce", "DPoP-Nonce: n2")}, 2, transport.ErrUnavailable},
		"a nonce that is not there":              {[]string{askForNone}, 1, transport.ErrUnavailable},
		"two nonces":                             {[]string{refusal("use_dpop_nonce", "DPoP-Nonce: n1", "DPoP-Nonce: n2")}, 1, transport.ErrUnavailable},
		"another time":                           {[]string{refusal("invalid_dpop_proof", dateHeader(5*time.Minute)), isBound}, 2, nil},
		"another time, as Keycloak puts it":      {[]string{refusal("invalid_request", dateHeader(-5*time.Minute)), isBound}, 2, nil},
		"a nonce and another time":               {[]string{refusal("use_dpop_nonce", "DPoP-Nonce: n1", dateHeader(time.Hour)), isBound}, 2, nil},
		"another time, again":                    {[]string{refusal("invalid_dpop_proof", dateHeader(5*time.Minute))}, 2, transport.ErrMisconfigured},
		"the proof, for no reason":               {[]string{refusal("invalid_dpop_proof", dateHeader(0))}, 1, transport.ErrMisconfigured},
		"the refresh token, and another time":    {[]string{refusal("invalid_grant", dateHeader(5*time.Minute))}, 1, transport.ErrLoginRequired},
		"a nonce, and then the refresh token":    {[]string{refusal("use_dpop_nonce", "DPoP-Nonce: n1"), refusal("invalid_grant")}, 2, transport.ErrLoginRequired},
		"a nonce, and then the server is broken": {[]string{refusal("use_dpop_nonce", "DPoP-Nonce: n1"), "503 Broken\n\n"}, 2, transport.ErrAmbiguous},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{answers: tt.answers}
			e := boundEndpoint(s)
			rec := boundRecord(t)
			_, err := e.Refresh(t.Context(), rec)
			if len(s.forms) != tt.requests || tt.kind == nil != (err == nil) || !errors.Is(err, tt.kind) {
				t.Errorf("%d requests, %v", len(s.forms), err)
			}
			ids := map[any]bool{}
			for i, proof := range s.proofs {
				ids[proof["jti"]] = true
				if proof["htu"] != "https://as.test/token" || proof["htm"] != "POST" || proof["ath"] != nil || s.forms[i].Get("refresh_token") != "r1" {
					t.Errorf("request %d: %v, %v", i+1, proof, s.forms[i])
				}
			}
			if len(ids) != tt.requests {
				t.Errorf("%d requests with %d different proofs", tt.requests, len(ids))
			}
			if tt.requests == 2 && strings.Contains(tt.answers[0], "n1") && s.proofs[1]["nonce"] != "n1" {
				t.Errorf("the second proof is %v", s.proofs[1])
			}
		})
	}
}

// Each request says anew who the client is, also the one for a nonce (C63).
func TestAssertionsAreRepeatedWithProofs(t *testing.T) {
	s := &script{answers: []string{refusal("use_dpop_nonce", "DPoP-Nonce: n1"), isBound}}
	e, asked := boundEndpoint(s), 0
	e.ClientAuth = countedAuth(func() string { asked++; return fmt.Sprint("assertion ", asked) })
	if _, err := e.Refresh(t.Context(), boundRecord(t)); err != nil {
		t.Fatal(err)
	}
	if s.forms[0].Get("client_assertion") != "assertion 1" || s.forms[1].Get("client_assertion") != "assertion 2" {
		t.Errorf("sent %v", s.forms)
	}
}

type countedAuth func() string

func (countedAuth) Method() string { return "private_key_jwt" }

func (c countedAuth) Authenticate(_ context.Context, r *AuthRequest) error {
	r.Form.Set("client_assertion", c())
	return nil
}

// A nonce of any answer is in the next proof, also if that was a success (C64).
func TestNonceOfASuccess(t *testing.T) {
	s := &script{answers: []string{strings.Replace(isBound, "OK\n", "OK\nDPoP-Nonce: n1\n", 1)}}
	e, rec := boundEndpoint(s), boundRecord(t)
	for range 2 {
		if _, err := e.Refresh(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.proofs) != 2 || s.proofs[0]["nonce"] != nil || s.proofs[1]["nonce"] != "n1" {
		t.Errorf("the proofs are %v", s.proofs)
	}
}

// A bearer token in answer to a proof is discarded, and the refresh token beside it is kept
// (C62).
func TestDowngrade(t *testing.T) {
	e := boundEndpoint(&script{answers: []string{isBearer}})
	rec := boundRecord(t)
	next, err := e.Refresh(t.Context(), rec)
	if !errors.Is(err, transport.ErrMisconfigured) || next == nil || next.AccessToken != "" || next.RefreshToken != "r2" {
		t.Fatalf("got %v, %v", next, err)
	}
	if _, thumbprint := next.Proof(); thumbprint == "" {
		t.Error("the refresh token is not bound any more")
	}
	if next, err := e.Exchange(t.Context(), "code", "", ""); next != nil || !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("the exchange returns %v, %v", next, err)
	}
}

// A login is refused here if its key is missing or another one: providers call its refresh token
// invalid, and that would end it (C60). What the provider cannot check is not sent (C55).
func TestKeysThatAreMissing(t *testing.T) {
	other := testkit.NewKey(t, "ES256")
	own, elsewhere, unreadable := boundRecord(t), boundRecord(t), boundRecord(t)
	_, thumbprint := own.Proof()
	elsewhere.Bind("", thumbprint)
	unreadable.Bind("no key", thumbprint)
	keyIs := func(key crypto.Signer, err error) *DPoP {
		return &DPoP{Key: func(context.Context, string) (crypto.Signer, error) { return key, err }}
	}
	for name, tt := range map[string]struct {
		rec        *tokencache.Record
		dpop       *DPoP
		algorithms []string
		want       error
	}{
		"no DPoP":                     {own, nil, nil, transport.ErrMisconfigured},
		"the key is elsewhere":        {elsewhere, new(DPoP), nil, transport.ErrMisconfigured},
		"another key":                 {elsewhere, keyIs(other, nil), nil, transport.ErrMisconfigured},
		"no key":                      {elsewhere, keyIs(nil, nil), nil, transport.ErrMisconfigured},
		"the key cannot be had":       {elsewhere, keyIs(nil, errors.New("down")), nil, transport.ErrUnavailable},
		"a key of another record":     {unreadable, new(DPoP), nil, transport.ErrMisconfigured},
		"an algorithm that is absent": {own, new(DPoP), []string{"ES384"}, transport.ErrMisconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{answers: []string{isBound}}
			e := boundEndpoint(s)
			e.DPoP, e.DPoPAlgorithms = tt.dpop, tt.algorithms
			if _, err := e.Refresh(t.Context(), tt.rec); !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
			if len(s.forms) != 0 {
				t.Errorf("%d requests", len(s.forms))
			}
		})
	}
}

// A key that cannot leave its place is found by its thumbprint, which is all that is stored (C72).
func TestKeyElsewhere(t *testing.T) {
	keys, asked := map[string]crypto.Signer{}, []string(nil)
	for _, alg := range []string{"ES256", "EdDSA", "PS256"} {
		signer := testkit.NewKey(t, alg)
		s := &script{answers: []string{isBound}}
		e := boundEndpoint(s)
		e.DPoP.Key = func(_ context.Context, thumbprint string) (crypto.Signer, error) {
			if asked = append(asked, thumbprint); thumbprint == "" {
				return signer, nil
			}
			return keys[thumbprint], nil
		}
		e.DPoPAlgorithms = []string{alg}
		rec, err := e.Exchange(t.Context(), "code", "", "")
		if err != nil {
			t.Fatal(err)
		}
		private, thumbprint := rec.Proof()
		keys[thumbprint] = signer
		if private != "" || thumbprint == "" {
			t.Errorf("%s: stored %q", alg, thumbprint)
		}
		if _, err := e.Refresh(t.Context(), rec); err != nil || asked[len(asked)-1] != thumbprint {
			t.Errorf("%s: %v, asked for %q", alg, err, asked)
		}
	}
}

// A login without a key stays as it is when DPoP is turned on, and one that is optional is bound
// only where the metadata says that it can be.
func TestLoginsWithoutAKey(t *testing.T) {
	s := &script{answers: []string{isBearer}}
	e := boundEndpoint(s)
	if _, err := e.Refresh(t.Context(), &tokencache.Record{TokenURL: e.TokenURL, RefreshToken: "r1"}); err != nil || s.proofs[0] != nil {
		t.Errorf("got %v with %v", err, s.proofs)
	}
	e = boundEndpoint(s)
	e.DPoP.Optional = true
	rec, err := e.Exchange(t.Context(), "code", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, thumbprint := rec.Proof(); thumbprint != "" || s.proofs[1] != nil {
		t.Error("it is bound, although the provider says nothing of DPoP")
	}
	s = &script{answers: []string{isBound}}
	e = boundEndpoint(s)
	e.DPoP.Optional, e.DPoPAlgorithms = true, []string{"ES256"}
	if rec, err = e.Exchange(t.Context(), "code", "", ""); err != nil {
		t.Fatal(err)
	}
	if _, thumbprint := rec.Proof(); thumbprint == "" || s.proofs[0] == nil {
		t.Error("it is not bound, although the provider lists DPoP")
	}
}

// A program that acts for itself keeps its key as well (C39).
func TestKeyOfAProgram(t *testing.T) {
	e := boundEndpoint(&script{answers: []string{isBound}})
	r := e.ClientCredentials()
	first, err := r.Refresh(t.Context(), &tokencache.Record{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.Refresh(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	_, was := first.Proof()
	if _, is := second.Proof(); was == "" || is != was {
		t.Errorf("the key %q became %q", was, is)
	}
	e.DPoP = nil
	if err := r.Check(second); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("without DPoP: %v", err)
	}
}

// One key is in the pushed request and in the exchange, in another process too, and no other
// login has it (C68, C69).
func TestBind(t *testing.T) {
	s := &script{answers: []string{refusal("use_dpop_nonce", "DPoP-Nonce: n1"), "201 Created\nContent-Type: application/json\n\n" + `{"request_uri":"urn:x"}`, isBound}}
	e := boundEndpoint(s)
	one, err := e.Bind(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	private, thumbprint := one.Proof()
	if _, err := one.Post(t.Context(), "push", "https://as.test/par", url.Values{"dpop_jkt": {thumbprint}}); err != nil {
		t.Fatal(err)
	}
	if len(s.proofs) != 2 || s.proofs[1]["htu"] != "https://as.test/par" || s.proofs[1]["nonce"] != "n1" {
		t.Errorf("the proofs are %v", s.proofs)
	}
	elsewhere, err := boundEndpoint(s).Bind(t.Context(), private, thumbprint)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := elsewhere.Exchange(t.Context(), "code", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, is := rec.Proof(); is != thumbprint {
		t.Error("the login is bound to another key than its request")
	}
	two, err := e.Bind(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, other := two.Proof(); other == thumbprint {
		t.Error("two logins have one key")
	}
	if _, err := e.Bind(t.Context(), private, "another"); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("got %v", err)
	}
	e.DPoP = nil
	if same, err := e.Bind(t.Context(), "", ""); same != e || err != nil {
		t.Errorf("without DPoP: %v, %v", same, err)
	}
}

// Tokens that are bound are revoked with a proof, which some providers want, or without if the
// key cannot be had.
func TestRevocationWithAProof(t *testing.T) {
	s := &script{answers: []string{"200 OK\n\n"}}
	e, rec := boundEndpoint(s), boundRecord(t)
	e.RevocationURL = "https://as.test/revoke"
	if err := e.Revoke(t.Context(), rec); err != nil || len(s.proofs) != 2 || s.proofs[0]["htu"] != e.RevocationURL || s.proofs[1] == nil {
		t.Errorf("%v, proofs %v", err, s.proofs)
	}
	e.DPoP = nil
	if err := e.Revoke(t.Context(), rec); err != nil || len(s.proofs) != 4 || s.proofs[2] != nil {
		t.Errorf("%v, proofs %v", err, s.proofs)
	}
}
