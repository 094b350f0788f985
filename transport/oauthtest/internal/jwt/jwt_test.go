package jwt

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport/internal/jws"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// What any key signs is accepted with that key, and with no other and nothing changed.
func TestSignedBy(t *testing.T) {
	other := testkit.NewKey(t, "ES256").Public()
	for _, alg := range []string{"ES256", "EdDSA", "RS256", "PS256"} {
		key := testkit.NewKey(t, alg)
		text, err := jws.Sign(key, alg, map[string]any{"typ": "t"}, map[string]any{"jti": "1"})
		if err != nil {
			t.Fatal(err)
		}
		var claims struct{ JTI string }
		token, ok := Parse(text, &claims)
		if !ok || claims.JTI != "1" || token.Type != "t" || token.Algorithm != alg || token.Key != nil || !token.SignedBy(key.Public()) || token.SignedBy(other) {
			t.Errorf("%s: %+v, %+v", alg, token, claims)
		}
		parts := strings.Split(text, ".")
		changed := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"jti":"2"}`)) + "." + parts[2]
		if token, ok := Parse(changed, &claims); !ok || token.SignedBy(key.Public()) {
			t.Errorf("%s: signature of other claims", alg)
		}
		// RFC 8725 section 3.1: the key decides about the algorithm.
		for _, header := range []string{`{"alg":"none"}`, `{"alg":"HS256"}`, `{"alg":"ES384"}`, `{}`} {
			changed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + parts[1] + "." + parts[2]
			if token, ok := Parse(changed, &claims); !ok || token.SignedBy(key.Public()) {
				t.Errorf("%s: signed with %s", alg, header)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for name, text := range map[string]string{
		"empty":              "",
		"two parts":          b64(`{}`) + "." + b64(`{}`),
		"four parts":         b64(`{}`) + "." + b64(`{}`) + ".AA.AA",
		"padding":            b64(`{}`) + "." + b64(`{}`) + ".AA==",
		"trailing bits":      b64(`{}`) + "." + b64(`{}`) + ".AB",
		"no JSON":            b64(`{`) + "." + b64(`{}`) + ".AA",
		"header an array":    b64(`[]`) + "." + b64(`{}`) + ".AA",
		"claims null":        b64(`{}`) + "." + b64(`null`) + ".AA",
		"alg a number":       b64(`{"alg":1}`) + "." + b64(`{}`) + ".AA",
		"critical extension": b64(`{"crit":["b64"]}`) + "." + b64(`{}`) + ".AA",
	} {
		var claims map[string]json.RawMessage
		if _, ok := Parse(text, &claims); ok {
			t.Errorf("%s: parsed", name)
		}
	}
}

// The example of RFC 7638 section 3.1, that of RFC 8037 appendix A.3, and those of RFC 9449
// sections 4.1 and 6.1.
func TestThumbprint(t *testing.T) {
	for want, jwk := range map[string]string{
		"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`,
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
		"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I": `{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`,
	} {
		key, err := PublicKey(json.RawMessage(jwk))
		if err != nil || Thumbprint(key) != want {
			t.Errorf("%q, %v; want %s", Thumbprint(key), err, want)
		}
	}
	if Thumbprint("no key") != "" {
		t.Error("thumbprint of no key")
	}
}

func TestPublicKeyRefuses(t *testing.T) {
	short := testkit.JWK(testkit.NewKey(t, "ES256"), "ES256", "")
	for name, change := range map[string]func(jwk map[string]any){
		"private":      func(jwk map[string]any) { jwk["d"] = "AA" },
		"symmetric":    func(jwk map[string]any) { jwk["kty"], jwk["k"] = "oct", "AA" },
		"P-384":        func(jwk map[string]any) { jwk["crv"] = "P-384" },
		"not on it":    func(jwk map[string]any) { jwk["y"] = jwk["x"] },
		"short":        func(jwk map[string]any) { jwk["x"] = "AA" },
		"no string":    func(jwk map[string]any) { jwk["x"] = 1 },
		"Ed25519 of 1": func(jwk map[string]any) { jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", "AA" },
		"RSA of 8":     func(jwk map[string]any) { jwk["kty"], jwk["n"], jwk["e"] = "RSA", "_w", "AQAB"; delete(jwk, "crv") },
	} {
		jwk := map[string]any{}
		for name, value := range short {
			jwk[name] = value
		}
		change(jwk)
		text, _ := json.Marshal(jwk)
		if key, err := PublicKey(text); err == nil {
			t.Errorf("%s: %T", name, key)
		}
	}
	if _, err := PublicKey(nil); err == nil {
		t.Error("no jwk")
	}
}

// FuzzToken: no token and no key makes the server panic, and what is accepted as a key has a
// thumbprint.
func FuzzToken(f *testing.F) {
	key := testkit.NewKey(f, "ES256")
	text, err := jws.Sign(key, "", map[string]any{"typ": "dpop+jwt", "jwk": testkit.JWK(key, "ES256", "")}, map[string]any{"jti": "1"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("e30.e30.")
	f.Fuzz(func(t *testing.T, text string) {
		var claims map[string]json.RawMessage
		token, ok := Parse(text, &claims)
		if !ok {
			return
		}
		key, err := PublicKey(token.Key)
		if err == nil && Thumbprint(key) == "" {
			t.Error("no thumbprint")
		}
		token.SignedBy(key)
	})
}
