package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
)

// minRSA is the length of the shortest RSA key that may be used (RFC 7518 section 3.3).
const minRSA = 2048

// PublicKey returns the key that a JSON Web Key describes (RFC 7517), which must be a public
// one: of RSA, of ECDSA on P-256, or of Ed25519.
func PublicKey(jwk json.RawMessage) (crypto.PublicKey, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(jwk, &members) != nil || members == nil {
		return nil, errors.New("jwk is no JSON object")
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := members[private]; ok {
			return nil, errors.New("jwk has the private key")
		}
	}
	text := func(name string) (s string) {
		json.Unmarshal(members[name], &s) // What is no string is none.
		return s
	}
	number := func(name string) []byte {
		raw, _ := base64.RawURLEncoding.Strict().DecodeString(text(name)) // Nor is this.
		return raw
	}
	switch text("kty") + " " + text("crv") {
	case "EC P-256":
		x, y := number("x"), number("y")
		if len(x) == 32 && len(y) == 32 {
			if key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y)); err == nil {
				return key, nil
			}
		}
		return nil, errors.New("jwk is no point on P-256")
	case "OKP Ed25519":
		if x := number("x"); len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x), nil
		}
		return nil, errors.New("jwk is no key of Ed25519")
	case "RSA ":
		n, e := new(big.Int).SetBytes(number("n")), new(big.Int).SetBytes(number("e"))
		if n.BitLen() < minRSA || e.BitLen() > 31 || e.Cmp(big.NewInt(3)) < 0 || e.Bit(0) == 0 {
			return nil, errors.New("jwk is no RSA key, or too short")
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	}
	return nil, errors.New("jwk is a key of an unknown kind")
}

// Thumbprint is that of RFC 7638, with SHA-256, of a key that PublicKey could return.
func Thumbprint(key crypto.PublicKey) string {
	b64 := base64.RawURLEncoding.EncodeToString
	var members map[string]string // json.Marshal puts them in the order that section 3.3 asks for.
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if point, err := key.Bytes(); err == nil && len(point) == 65 {
			members = map[string]string{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
		}
	case *rsa.PublicKey:
		members = map[string]string{"kty": "RSA", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())}
	case ed25519.PublicKey:
		members = map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(key)}
	}
	if members == nil {
		return ""
	}
	text, _ := json.Marshal(members) // Strings always can be.
	sum := sha256.Sum256(text)
	return b64(sum[:])
}
