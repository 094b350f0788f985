package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
)

// JWK returns a public key that Algorithm accepts, as a JSON Web Key that has only what it must
// have (RFC 7517, RFC 7518 section 6, RFC 8037 section 2), or nil.
func JWK(public crypto.PublicKey) map[string]string {
	b64 := base64.RawURLEncoding.EncodeToString
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil || len(point) != 65 {
			return nil
		}
		return map[string]string{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())}
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(key)}
	}
	return nil
}

// Thumbprint returns the thumbprint of a key that JWK has returned (RFC 7638): the hash of its
// members in the order of their names, which is how encoding/json writes a map.
func Thumbprint(jwk map[string]string) string {
	text, _ := json.Marshal(jwk) // Strings can always be encoded.
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
