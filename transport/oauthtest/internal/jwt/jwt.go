// Package jwt checks JSON Web Tokens (RFC 7519) that clients have signed, over the standard
// library. Only the server that tests talk to can import it: what programs run signs tokens, and
// reads none.
package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
)

// A Token is in its compact form (RFC 7515 section 7.1). Nothing that it says is to be believed
// until it is known who signed it.
type Token struct {
	Type      string          // "typ"
	Algorithm string          // "alg"
	KeyID     string          // "kid"
	Key       json.RawMessage // "jwk"; nil if there is none

	signed    string
	signature []byte
}

// Parse splits a token, and decodes its claims, which are a JSON object, into the value that
// claims points to.
func Parse(token string, claims any) (*Token, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, false
	}
	var header map[string]json.RawMessage
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || !decode(parts[0], &header) || !decode(parts[1], claims) {
		return nil, false
	}
	t := &Token{Key: header["jwk"], signed: parts[0] + "." + parts[1], signature: signature}
	for name, into := range map[string]*string{"typ": &t.Type, "alg": &t.Algorithm, "kid": &t.KeyID} {
		if raw, ok := header[name]; ok && json.Unmarshal(raw, into) != nil {
			return nil, false
		}
	}
	_, critical := header["crit"] // RFC 7515 section 4.1.11: nothing of it is understood.
	return t, !critical
}

func decode(part string, into any) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	return err == nil && strings.HasPrefix(string(raw), "{") && json.Unmarshal(raw, into) == nil
}

// SignedBy reports whether the key has signed the token, with the algorithm that its header
// names.
func (t *Token) SignedBy(key crypto.PublicKey) bool {
	sum := sha256.Sum256([]byte(t.signed))
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return t.Algorithm == "ES256" && len(t.signature) == 64 &&
			ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(t.signature[:32]), new(big.Int).SetBytes(t.signature[32:]))
	case *rsa.PublicKey:
		return t.Algorithm == "RS256" && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], t.signature) == nil ||
			t.Algorithm == "PS256" && rsa.VerifyPSS(key, crypto.SHA256, sum[:], t.signature, &rsa.PSSOptions{SaltLength: sha256.Size}) == nil
	case ed25519.PublicKey: // RFC 8037, and RFC 9864, which gives it a name of its own
		return (t.Algorithm == "EdDSA" || t.Algorithm == "Ed25519") && ed25519.Verify(key, []byte(t.signed), t.signature)
	}
	return false
}
