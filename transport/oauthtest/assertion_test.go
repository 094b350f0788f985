package oauthtest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport/internal/jws"
	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// An assertion is accepted once, and only if everything about it is right.
func TestAssertions(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		signer crypto.Signer
		change func(claims map[string]any, f url.Values)
		says   string
	}{
		{"good", key, func(map[string]any, url.Values) {}, ""},
		{"another key", other, func(map[string]any, url.Values) {}, "signature"},
		{"aud an array", key, func(c map[string]any, _ url.Values) { c["aud"] = []string{"https://auth.test"} }, "aud"},
		{"aud the token endpoint", key, func(c map[string]any, _ url.Values) { c["aud"] = "https://auth.test/token" }, "aud"},
		{"aud with a slash", key, func(c map[string]any, _ url.Values) { c["aud"] = "https://auth.test/" }, "aud"},
		{"expired", key, func(c map[string]any, _ url.Values) { c["exp"] = time.Now().Unix() }, "has expired"},
		{"exp too far", key, func(c map[string]any, _ url.Values) { c["exp"] = time.Now().Add(10 * time.Minute).Unix() }, "too late"},
		{"no exp", key, func(c map[string]any, _ url.Values) { delete(c, "exp") }, "expired"},
		{"iat in the future", key, func(c map[string]any, _ url.Values) { c["iat"] = time.Now().Add(time.Minute).Unix() }, "future"},
		{"no jti", key, func(c map[string]any, _ url.Values) { delete(c, "jti") }, "jti"},
		{"sub another", key, func(c map[string]any, _ url.Values) { c["sub"] = "other" }, "sub"},
		{"client_id another", key, func(_ map[string]any, f url.Values) { f.Set("client_id", "other") }, "another client"},
		{"type another", key, func(_ map[string]any, f url.Values) { f.Set("client_assertion_type", "saml") }, "client_assertion_type"},
		{"no JWT", key, func(_ map[string]any, f url.Values) { f.Set("client_assertion", "ey.ey") }, "no JWT"},
		{"a secret as well", key, func(_ map[string]any, f url.Values) { f.Set("client_secret", "x") }, "more than one way"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := inMemory(t, Config{AuthStyle: AuthPrivateKey, ClientKeys: []crypto.PublicKey{key.Public()}})
				claims := map[string]any{"iss": "client", "sub": "client", "aud": "https://auth.test", "jti": "1",
					"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
				f := url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}
				tt.change(claims, f)
				if !f.Has("client_assertion") {
					token, err := jws.Sign(tt.signer, "", map[string]any{}, claims)
					if err != nil {
						t.Fatal(err)
					}
					f.Set("client_assertion", token)
				}
				for try, says := range []string{tt.says, "used before"} {
					if tt.says != "" && try > 0 {
						return // It was refused already.
					}
					req, err := http.NewRequestWithContext(t.Context(), "POST", c.s.TokenURL(), strings.NewReader(f.Encode()))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					a, err := c.send(req)
					if err != nil || says == "" && a.Status != 200 || says != "" && (a.Status/100 != 4 || !strings.Contains(a.Body, says)) {
						t.Errorf("try %d: %d %s, %v", try+1, a.Status, a.Body, err)
					}
				}
				if n := c.s.Counts(); n.Assertions != 2 || n.RepeatedAssertions != 1 {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}
