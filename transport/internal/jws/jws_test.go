package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
)

func decoded(t *testing.T, part string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// verified reports whether the signature of a token is good, by the standard library alone.
func verified(t *testing.T, public crypto.PublicKey, token string) bool {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	message, signature := []byte(parts[0]+"."+parts[1]), decoded(t, parts[2])
	sum := sha256.Sum256(message)
	var header struct{ Alg string }
	if err := json.Unmarshal(decoded(t, parts[0]), &header); err != nil {
		t.Fatal(err)
	}
	switch header.Alg {
	case ES256:
		return len(signature) == 64 && ecdsa.Verify(public.(*ecdsa.PublicKey), sum[:],
			new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	case PS256:
		return rsa.VerifyPSS(public.(*rsa.PublicKey), crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: 32}) == nil
	case RS256:
		return rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), crypto.SHA256, sum[:], signature) == nil
	case EdDSA:
		return ed25519.Verify(public.(ed25519.PublicKey), message, signature)
	}
	t.Fatalf("algorithm %q", header.Alg)
	return false
}

func keys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	ec, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsaKey, err3 := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, err4 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"P-256": ec, "P-384": p384, "RSA": rsaKey, "Ed25519": ed}
}

// Every algorithm signs what a verifier expects, and no key signs with one that is not its own.
func TestSign(t *testing.T) {
	keys := keys(t)
	for _, tt := range []struct{ key, asked, want string }{
		{"P-256", "", ES256},
		{"P-256", ES256, ES256},
		{"P-256", RS256, ""},
		{"P-384", "", ""},
		{"RSA", "", RS256},
		{"RSA", RS256, RS256},
		{"RSA", PS256, PS256},
		{"RSA", ES256, ""},
		{"RSA", "HS256", ""},
		{"RSA", "none", ""},
		{"Ed25519", "", EdDSA},
		{"Ed25519", EdDSA, EdDSA},
		{"Ed25519", ES256, ""},
	} {
		t.Run(tt.key+" "+tt.asked, func(t *testing.T) {
			key := keys[tt.key]
			token, err := Sign(key, tt.asked, map[string]any{"kid": "k1"}, map[string]any{"sub": "ann"})
			if tt.want == "" {
				if err == nil || token != "" {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil || !verified(t, key.Public(), token) {
				t.Fatalf("not verified: %v", err)
			}
			parts := strings.Split(token, ".")
			if got, want := string(decoded(t, parts[0])), `{"alg":"`+tt.want+`","kid":"k1"}`; got != want {
				t.Errorf("header %s, want %s", got, want)
			}
			if got := string(decoded(t, parts[1])); got != `{"sub":"ann"}` {
				t.Errorf("claims %s", got)
			}
			if verified(t, key.Public(), strings.Replace(token, parts[1], base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"bob"}`)), 1)) {
				t.Error("other claims are signed as well")
			}
		})
	}
}

// A short r or s is filled with zeros: one signature in 128 has one.
func TestSignatureOfFixedLength(t *testing.T) {
	key := keys(t)["P-256"]
	for range 600 {
		token, err := Sign(key, "", map[string]any{}, map[string]any{})
		if err != nil || !verified(t, key.Public(), token) {
			t.Fatalf("not verified: %v", err)
		}
	}
}

// An oddSigner is a key that is somewhere else, and what is there does not work.
type oddSigner struct {
	crypto.Signer
	signature []byte
	err       error
}

func (s oddSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return s.signature, s.err
}

func TestSignerThatFails(t *testing.T) {
	key, down := keys(t)["P-256"], errors.New("down")
	for name, s := range map[string]oddSigner{
		"error":      {Signer: key, err: down},
		"nothing":    {Signer: key},
		"raw":        {Signer: key, signature: bytes.Repeat([]byte{1}, 64)},
		"no numbers": {Signer: key, signature: []byte{0x30, 6, 2, 1, 0, 2, 1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := Sign(s, "", map[string]any{}, map[string]any{})
			if err == nil || token != "" || s.err != nil && !errors.Is(err, down) {
				t.Errorf("got %q, %v", token, err)
			}
		})
	}
}

func FuzzFixed(f *testing.F) {
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		if raw, err := fixed(der); err == nil && len(raw) != 64 {
			t.Errorf("%d bytes", len(raw))
		}
	})
}
