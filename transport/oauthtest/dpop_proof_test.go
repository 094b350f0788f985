package oauthtest_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/internal/testkit"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// A proof is refused if anything about it is wrong, at the token endpoint and at the API (C37,
// C56, C57), and what was presented with it is not spent.
func TestWrongProofs(t *testing.T) {
	claim := func(name string, value any) change { return func(_, claims map[string]any) { claims[name] = value } }
	without := func(name string) change { return func(_, claims map[string]any) { delete(claims, name) } }
	head := func(name string, value any) change { return func(header, _ map[string]any) { header[name] = value } }
	key, other := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "EdDSA")
	private := testkit.JWK(key, "", "")
	private["d"] = "AA"
	for _, tt := range []struct {
		name   string
		change change
		says   string
	}{
		{"good", func(_, _ map[string]any) {}, ""},
		{"another typ", head("typ", "JWT"), "typ"},
		{"no typ", func(header, _ map[string]any) { delete(header, "typ") }, "typ"},
		{"no jwk", func(header, _ map[string]any) { delete(header, "jwk") }, "jwk"},
		{"another jwk", head("jwk", testkit.JWK(other, "", "")), "signature"},
		{"private jwk", head("jwk", private), "private"},
		{"critical extension", head("crit", []string{"b64"}), "no JWT"},
		{"no jti", without("jti"), "jti"},
		{"short jti", claim("jti", "0123456789"), "jti"},
		{"jti a number", claim("jti", 7), "jti"},
		{"no htm", without("htm"), "htm"},
		{"htm another", claim("htm", "PUT"), "htm"},
		{"htm in lower case", func(_, claims map[string]any) { claims["htm"] = strings.ToLower(claims["htm"].(string)) }, "htm"},
		{"no htu", without("htu"), "htu"},
		{"htu with a query", func(_, claims map[string]any) { claims["htu"] = claims["htu"].(string) + "?q=1" }, "htu"},
		{"htu with a fragment", func(_, claims map[string]any) { claims["htu"] = claims["htu"].(string) + "#f" }, "htu"},
		{"htu with a port", func(_, claims map[string]any) {
			claims["htu"] = strings.Replace(claims["htu"].(string), ".test/", ".test:443/", 1)
		}, "htu"},
		{"htu in capitals", func(_, claims map[string]any) {
			claims["htu"] = strings.Replace(claims["htu"].(string), ".test/", ".TEST/", 1)
		}, "htu"},
		{"htu another path", claim("htu", "https://auth.test/revoke"), "htu"},
		{"htu another host", claim("htu", "https://other.test/token"), "htu"},
		{"no iat", without("iat"), "iat"},
		{"iat a fraction", claim("iat", float64(time.Now().Unix())+0.5), "iat"},
		{"iat too early", claim("iat", time.Now().Add(-20*time.Second).Unix()), "iat"},
		{"iat too late", claim("iat", time.Now().Add(20*time.Second).Unix()), "iat"},
		{"ath another", claim("ath", base64.RawURLEncoding.EncodeToString(make([]byte, 32))), "ath"},
		{"nonce a number", claim("nonce", 7), "nonce"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, DPoP: DPoP{Mode: DPoPOptional}})
			login := c.s.LoginBound("alice", key.Public())
			a := c.bound("DPoP", login.AccessToken, key, "", tt.change)
			b := c.grant(key, "", spend(login.RefreshToken), tt.change)
			if tt.says == "" {
				if a.Status != 200 || b.Status != 200 || c.s.Counts().BadProofs != 0 {
					t.Errorf("API %d %s; token endpoint %d %s", a.Status, challenges(a), b.Status, b.Body)
				}
				return
			}
			if says := challenges(a); a.Status != 401 || !strings.Contains(says, `DPoP realm="oauthtest", error="invalid_dpop_proof"`) || !strings.Contains(says, tt.says) {
				t.Errorf("API: %d %s", a.Status, says)
			}
			if b.Status != 400 || b.Error != "invalid_dpop_proof" || !strings.Contains(b.Body, tt.says) {
				t.Errorf("token endpoint: %d %s", b.Status, b.Body)
			}
			if n := c.s.Counts(); n.Proofs != 2 || n.BadProofs != 2 || n.Rotations != 0 || !c.s.Valid(login.RefreshToken) || !c.s.Valid(login.AccessToken) {
				t.Errorf("%+v", n)
			}
		})
	}
}

// No ath at the API, ath at the token endpoint, and two proofs at once.
func TestProofsOutOfPlace(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, DPoP: DPoP{Mode: DPoPRequired}})
	login := c.s.LoginBound("alice", key.Public())
	if a := c.bound("DPoP", login.AccessToken, key, "", func(_, claims map[string]any) { delete(claims, "ath") }); a.Status != 401 || !strings.Contains(challenges(a), "ath") {
		t.Errorf("no ath: %d %s", a.Status, challenges(a))
	}
	if a := c.grant(key, "", spend(login.RefreshToken), func(_, claims map[string]any) { claims["ath"] = "AA" }); a.Error != "invalid_dpop_proof" {
		t.Errorf("ath: %d %s", a.Status, a.Body)
	}
	req, _ := http.NewRequest("GET", c.s.APIURL(), nil)
	req.Header.Set("Authorization", "DPoP "+login.AccessToken)
	for range 2 {
		req.Header.Add("DPoP", prove(t, key, req, "", login.AccessToken))
	}
	if a, err := c.send(req); err != nil || a.Status != 401 || !strings.Contains(challenges(a), "more than one") {
		t.Errorf("two proofs: %d %s, %v", a.Status, challenges(a), err)
	}
	req.Header.Del("DPoP")
	if a, err := c.send(req); err != nil || a.Status != 401 || !strings.Contains(challenges(a), "a proof is required") {
		t.Errorf("no proof: %d %s, %v", a.Status, challenges(a), err)
	}
	if a := c.grant(nil, "", spend(login.RefreshToken)); a.Error != "invalid_dpop_proof" {
		t.Errorf("no proof: %d %s", a.Status, a.Body)
	}
}

// Each proof is good for one request, wherever it is presented again (C58).
func TestProofTwice(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, DPoP: DPoP{Mode: DPoPRequired}})
	login := c.s.LoginBound("alice", key.Public())
	same := func(_, claims map[string]any) { claims["jti"] = "0123456789abcdef" }
	if a := c.bound("DPoP", login.AccessToken, key, "", same); a.Status != 200 {
		t.Fatal(challenges(a))
	}
	if a := c.bound("DPoP", login.AccessToken, key, "", same); a.Status != 401 || !strings.Contains(challenges(a), "used before") {
		t.Errorf("API: %d %s", a.Status, challenges(a))
	}
	if a := c.grant(key, "", spend(login.RefreshToken), same); a.Error != "invalid_dpop_proof" || !strings.Contains(a.Body, "used before") {
		t.Errorf("token endpoint: %d %s", a.Status, a.Body)
	}
	if n := c.s.Counts(); n.Proofs != 3 || n.RepeatedProofs != 2 || n.BadProofs != 2 {
		t.Errorf("%+v", n)
	}
}
