package oauthtest_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport/internal/jws"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// sign returns an assertion that a conforming client would not make.
func sign(t testing.TB, key crypto.Signer, header, claims map[string]any) string {
	t.Helper()
	token, err := jws.Sign(key, "", header, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// forged returns a token with an algorithm that the key does not have.
func forged(alg string, claims map[string]any, mac func(message string) []byte) string {
	enc := base64.RawURLEncoding.EncodeToString
	body, _ := json.Marshal(claims)
	message := enc([]byte(`{"alg":"`+alg+`","typ":"JWT"}`)) + "." + enc(body)
	return message + "." + enc(mac(message))
}

// A statement is what a client says, on its way to a server.
type statement struct {
	header, claims map[string]any
	form           url.Values
}

// An assertion is accepted once, and only if everything about it is right: as the proof of who
// the client is, and as a grant (RFC 7523 section 3).
func TestAssertions(t *testing.T) {
	key, other := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "EdDSA")
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	hmacOf := func(secret []byte) func(string) []byte {
		return func(message string) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(message))
			return mac.Sum(nil)
		}
	}
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	const proof, grant = 1, 2 // what a case is about
	for _, tt := range []struct {
		name   string
		about  int
		signer crypto.Signer
		change func(s statement)
		says   string // "": it is accepted
	}{
		{"good", proof | grant, key, func(statement) {}, ""},
		{"another type that fits", proof, key, func(s statement) { s.header["typ"] = "client-authentication+jwt" }, ""},
		{"another key", proof | grant, other, func(statement) {}, "signature"},
		{"none", proof | grant, nil, func(s statement) {
			s.form.Set("assertion", forged("none", s.claims, func(string) []byte { return nil }))
		}, "signature"},
		{"HS256 with the public key", proof | grant, nil, func(s statement) { s.form.Set("assertion", forged("HS256", s.claims, hmacOf(public))) }, "signature"},
		{"HS256 with nothing", proof | grant, nil, func(s statement) { s.form.Set("assertion", forged("HS256", s.claims, hmacOf(nil))) }, "signature"},
		{"another algorithm of the same key", proof | grant, nil, func(s statement) {
			token := strings.Split(sign(t, key, s.header, s.claims), ".")
			token[0] = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES384"}`))
			s.form.Set("assertion", strings.Join(token, "."))
		}, "algorithm"},
		{"kid unknown", proof | grant, key, func(s statement) { s.header["kid"] = "k2" }, "kid"},
		{"no kid", proof | grant, key, func(s statement) { delete(s.header, "kid") }, "kid"},
		{"made for something else", proof | grant, key, func(s statement) { s.header["typ"] = "dpop+jwt" }, "signature"},
		{"crit", proof | grant, key, func(s statement) { s.header["crit"] = []string{"b64"} }, "no JWT"},
		{"aud an array", proof | grant, key, func(s statement) { s.claims["aud"] = []any{s.claims["aud"]} }, "aud"},
		{"aud another", proof | grant, key, func(s statement) { s.claims["aud"] = "https://else.test" }, "aud"},
		{"aud with a slash", proof | grant, key, func(s statement) { s.claims["aud"] = s.claims["aud"].(string) + "/" }, "aud"},
		{"aud the token endpoint", proof, key, func(s statement) { s.claims["aud"] = "https://auth.test/token" }, "aud"},
		{"no aud", proof | grant, key, func(s statement) { delete(s.claims, "aud") }, "aud"},
		{"expired", proof | grant, key, func(s statement) { s.claims["exp"] = in(0) }, "has expired"},
		{"exp too far", proof | grant, key, func(s statement) { s.claims["exp"] = in(10 * time.Minute) }, "too late"},
		{"lives too long", proof | grant, key, func(s statement) { s.claims["iat"] = in(-time.Hour) }, "too late"},
		{"no exp", proof | grant, key, func(s statement) { delete(s.claims, "exp") }, "expired"},
		{"exp no number", proof | grant, key, func(s statement) { s.claims["exp"] = "soon" }, "no JWT"},
		{"iat in the future", proof | grant, key, func(s statement) { s.claims["iat"] = in(30 * time.Second) }, "future"},
		{"no iat", proof | grant, key, func(s statement) { delete(s.claims, "iat") }, "iat"},
		{"no jti", proof | grant, key, func(s statement) { delete(s.claims, "jti") }, "jti"},
		{"iss another", proof | grant, key, func(s statement) { s.claims["iss"] = "other" }, "iss"},
		{"sub another", proof, key, func(s statement) { s.claims["sub"] = "other" }, "sub"},
		{"no sub", proof | grant, key, func(s statement) { delete(s.claims, "sub") }, "sub"},
		{"client_id another", proof, key, func(s statement) { s.form.Set("client_id", "other") }, "another client"},
		{"type another", proof, key, func(s statement) { s.form.Set("client_assertion_type", "saml") }, "client_assertion_type"},
		{"no JWT", proof | grant, nil, func(s statement) { s.form.Set("assertion", "ey.ey") }, "no JWT"},
		{"a secret as well", proof, key, func(s statement) { s.form.Set("client_secret", "x") }, "more than one way"},
	} {
		for about, name := range map[int]string{proof: "client", grant: "grant"} {
			if tt.about&about == 0 {
				continue
			}
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					keys := []crypto.PublicKey{NamedKey{"k1", key.Public()}}
					c := inMemory(t, Config{AuthStyle: AuthPrivateKey, ClientKeys: keys})
					f, audience, status, code := url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"},
						"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}, "https://auth.test", 401, "invalid_client"
					if about == grant {
						c = inMemory(t, Config{AuthStyle: AuthNone, ClientKeys: keys})
						f, audience, status, code = url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "client_id": {"client"}}, "https://auth.test/token", 400, "invalid_grant"
					}
					s := statement{map[string]any{"kid": "k1"}, map[string]any{"iss": "client", "sub": "client", "aud": audience, "jti": "1", "iat": in(0), "exp": in(time.Minute)}, f}
					tt.change(s)
					if tt.signer != nil {
						f.Set("assertion", sign(t, tt.signer, s.header, s.claims))
					}
					if about == proof {
						f["client_assertion"] = f["assertion"]
						f.Del("assertion")
					}
					says := tt.says
					for try := range 2 {
						a := c.ask(f)
						switch {
						case says == "" && a.Status != 200:
							t.Errorf("try %d: refused: %d %s", try+1, a.Status, a.Body)
						case says != "" && !strings.Contains(a.Body, says):
							t.Errorf("try %d: %d %s, want it to say %q", try+1, a.Status, a.Body, says)
						case says == "more than one way" && strings.Contains(a.Body, "invalid_request"):
						case says != "" && (a.Status != status || !strings.Contains(a.Body, `"`+code+`"`)):
							t.Errorf("try %d: %d %s, want %d %s", try+1, a.Status, a.Body, status, code)
						}
						if says != "" {
							return // It was refused already.
						}
						says = "used before"
					}
					if n := c.s.Counts(); n.Assertions != 2 || n.RepeatedAssertions != 1 {
						t.Errorf("%+v", n)
					}
				})
			})
		}
	}
}

// ask sends a token request without any other proof of who the client is.
func (c client) ask(f url.Values) answer {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), "POST", c.s.TokenURL(), strings.NewReader(f.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := c.send(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// No token is accepted but the one that was signed, and nothing makes the server panic.
func FuzzAssertion(f *testing.F) {
	key := testkit.NewKey(f, "ES256")
	for _, header := range []string{`{"alg":"ES256"}`, `{"alg":"none"}`, `{"alg":1}`, `[]`} {
		for _, claims := range []string{`{"iss":"client","sub":"client","aud":"https://auth.test","exp":99999999999,"iat":1,"jti":"1"}`, `{"exp":1e400}`, `null`} {
			f.Add([]byte(header), []byte(claims), []byte("signature"))
		}
	}
	s := New(Config{AuthStyle: AuthPrivateKey, ClientKeys: []crypto.PublicKey{key.Public()}})
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, header, claims, signature []byte) {
		enc := base64.RawURLEncoding.EncodeToString
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion": {enc(header) + "." + enc(claims) + "." + enc(signature)}}
		req := httptest.NewRequest("POST", "https://auth.test/token", strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer := httptest.NewRecorder()
		s.Handler().ServeHTTP(answer, req)
		if answer.Code != http.StatusUnauthorized {
			t.Errorf("status %d", answer.Code)
		}
	})
}
