package testkit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// NewKey returns a key that signs with alg (RFC 7518 section 3.1).
func NewKey(t testing.TB, alg string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	NoteSecrets(private(key))
	return key
}

// private returns the number or seed that makes a key secret, in the forms that have no shape of
// their own.
func private(key crypto.Signer) []string {
	var d []byte
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		d, _ = key.Bytes() // Those of a key on P-256 can always be had.
	case *rsa.PrivateKey:
		d = key.D.Bytes()
	case ed25519.PrivateKey:
		d = key.Seed()
	}
	encoded := base64.StdEncoding.EncodeToString(d)
	return []string{hex.EncodeToString(d), fmt.Sprint(d), new(big.Int).SetBytes(d).String(),
		strings.TrimRight(encoded, "="), base64.RawURLEncoding.EncodeToString(d)}
}

// JWK returns the public half of a key as it is registered with providers (RFC 7517).
func JWK(key crypto.Signer, alg, kid string) map[string]any {
	jwk := map[string]any{"use": "sig", "alg": alg, "kid": kid}
	b64 := base64.RawURLEncoding.EncodeToString
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		point, _ := public.Bytes() // That of a key on P-256 always has them.
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", b64(public.N.Bytes()), "AQAB"
	case ed25519.PublicKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", b64(public)
	}
	return jwk
}
