package clientauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// privateJWK returns both halves of a key (RFC 7517).
func privateJWK(t testing.TB, key crypto.Signer, alg, kid string) map[string]any {
	t.Helper()
	k := testkit.JWK(key, alg, kid)
	b64 := base64.RawURLEncoding.EncodeToString
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		d, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		k["d"] = b64(d)
	case *rsa.PrivateKey:
		k["d"], k["p"], k["q"] = b64(key.D.Bytes()), b64(key.Primes[0].Bytes()), b64(key.Primes[1].Bytes())
	case ed25519.PrivateKey:
		k["d"] = b64(key.Seed())
	}
	return k
}

func writeJWK(t testing.TB, path string, k map[string]any) {
	t.Helper()
	text, err := json.Marshal(k)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A JSON Web Key signs, and brings its name and algorithm with it.
func TestJWK(t *testing.T) {
	for _, alg := range []string{"ES256", "PS256", "RS256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			key := testkit.NewKey(t, alg)
			path := keyPath(t)
			writeJWK(t, path, privateJWK(t, key, alg, "key-2026"))
			srv, e := server(t, oauthtest.Config{}, key)
			file := clientauth.KeyFile(path, "")
			e.ClientAuth = &clientauth.PrivateKey{Key: file}
			if _, err := e.ClientCredentials().Refresh(t.Context(), new(tokencache.Record)); err != nil || srv.Counts().Assertions != 1 {
				t.Error(err)
			}
			k, err := file(t.Context())
			must(t, err)
			if k.ID != "key-2026" || (k.Algorithm == "PS256") != (alg == "PS256") {
				t.Errorf("%v, algorithm %q", k, k.Algorithm)
			}
			if k, err = clientauth.KeyFile(path, "another")(t.Context()); err != nil || k.ID != "another" {
				t.Errorf("%v, %v", k, err)
			}
		})
	}
}

// A JSON Web Key that is not whole is not used, and nothing of it is shown.
func TestBadJWKs(t *testing.T) {
	ec, rs, ed := privateJWK(t, testkit.NewKey(t, "ES256"), "ES256", ""), privateJWK(t, testkit.NewKey(t, "RS256"), "RS256", ""), privateJWK(t, testkit.NewKey(t, "EdDSA"), "EdDSA", "")
	other := privateJWK(t, testkit.NewKey(t, "ES256"), "ES256", "")
	for _, tt := range []struct {
		name string
		key  map[string]any
		with map[string]any
		says string
	}{
		{"the public half", ec, map[string]any{"d": nil}, "no private key"},
		{"a set of keys", map[string]any{"keys": []any{ec}}, nil, "no private key"},
		{"a service account", map[string]any{"type": "service_account", "private_key": "secret"}, nil, "no private key"},
		{"another's public half", ec, map[string]any{"x": other["x"], "y": other["y"]}, "damaged"},
		{"another's x", ed, map[string]any{"x": ec["x"]}, "damaged"},
		{"no public half", ec, map[string]any{"x": nil, "y": nil}, "damaged"},
		{"another curve", ec, map[string]any{"crv": "P-384"}, "damaged"},
		{"X25519", ed, map[string]any{"crv": "X25519"}, "damaged"},
		{"d too short", ed, map[string]any{"d": "c2VjcmV0"}, "damaged"},
		{"no base64", ec, map[string]any{"d": "secret!"}, "damaged"},
		{"no string", ec, map[string]any{"d": 1}, "damaged"},
		{"symmetric", map[string]any{"kty": "oct", "k": "c2VjcmV0", "d": "c2VjcmV0"}, nil, "damaged"},
		{"RSA without primes", rs, map[string]any{"p": nil, "q": nil}, "damaged"},
		{"RSA with wrong primes", rs, map[string]any{"p": rs["q"]}, "damaged"},
		{"RSA with a wrong modulus", rs, map[string]any{"n": rs["d"]}, "damaged"},
		{"RSA with zeros", map[string]any{"kty": "RSA", "n": "AA", "e": "AA", "d": "AA", "p": "AA", "q": "AA"}, nil, "damaged"},
		{"RSA too long", rs, map[string]any{"n": strings.Repeat("c2Vj", 1000)}, "damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := maps.Clone(tt.key)
			maps.Copy(key, tt.with)
			path := keyPath(t)
			writeJWK(t, path, key)
			_, err := clientauth.KeyFile(path, "")(t.Context())
			if wantError(t, err, transport.ErrMisconfigured); !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzParseKey(f *testing.F) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		key := testkit.NewKey(f, alg)
		path := keyPath(f)
		writeJWK(f, path, privateJWK(f, key, alg, "k"))
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		writeKey(f, path, key)
		if text, err = os.ReadFile(path); err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := clientauth.ParseKey(text)
		if (key == nil) != (err != nil) || err == nil && key.Signer.Public() == nil {
			t.Errorf("%v, %v", key, err)
		}
	})
}
