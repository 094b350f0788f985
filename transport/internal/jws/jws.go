// Package jws signs JSON Web Tokens (RFC 7515, compact serialization; RFC 7519) with keys that
// may be anywhere: a crypto.Signer is enough. It signs and never parses, so none of the attacks
// on verifiers can reach this module.
package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// The algorithms (RFC 7518 section 3.1, RFC 8037 section 3.1).
const (
	ES256 = "ES256"
	PS256 = "PS256"
	RS256 = "RS256"
	EdDSA = "EdDSA"
)

// minRSA is the length of the shortest RSA key that may be used (RFC 7518 section 3.3).
const minRSA = 2048

// Algorithm returns how a key signs: as asked, or, if nothing is asked, in the way that most
// servers know for such a key. The error says why the key cannot do that.
func Algorithm(public crypto.PublicKey, asked string) (string, error) {
	alg := ""
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return "", errors.New("the curve of the key must be P-256")
		}
		alg = ES256
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSA {
			return "", fmt.Errorf("the RSA key has %d bits, and must have at least %d", key.N.BitLen(), minRSA)
		}
		if alg = RS256; asked == PS256 {
			alg = PS256
		}
	case ed25519.PublicKey:
		alg = EdDSA
	default:
		return "", fmt.Errorf("a key of type %T: it must be an ECDSA key on P-256, an RSA key or an Ed25519 key", public)
	}
	if asked != "" && asked != alg {
		return "", fmt.Errorf("a key of type %T cannot sign with %q", public, asked)
	}
	return alg, nil
}

// A Signer signs tokens that have the same header. It is safe for concurrent use if its key is.
type Signer struct {
	key    crypto.Signer
	alg    string
	header string // encoded, with the dot
}

// NewSigner returns a Signer for tokens with the given header, in which it sets "alg".
func NewSigner(key crypto.Signer, alg string, header map[string]any) (*Signer, error) {
	alg, err := Algorithm(key.Public(), alg)
	if err != nil {
		return nil, err
	}
	header["alg"] = alg
	text, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	return &Signer{key, alg, base64.RawURLEncoding.EncodeToString(text) + "."}, nil
}

// Algorithm is the one that the Signer signs with.
func (s *Signer) Algorithm() string { return s.alg }

// Sign returns the token with the given claims (RFC 7515 section 5.1).
func (s *Signer) Sign(claims any) (string, error) {
	text, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	token := make([]byte, 0, len(s.header)+base64.RawURLEncoding.EncodedLen(len(text))+1+maxSignature)
	token = append(token, s.header...)
	token = base64.RawURLEncoding.AppendEncode(token, text)
	signature, err := s.sign(token)
	if err != nil {
		return "", err
	}
	token = append(token, '.')
	return string(base64.RawURLEncoding.AppendEncode(token, signature)), nil
}

// maxSignature is the length of an encoded signature of an RSA key of 2048 bits. Longer ones
// cost an allocation.
const maxSignature = 342

func (s *Signer) sign(message []byte) ([]byte, error) {
	opts := crypto.SignerOpts(crypto.Hash(0))
	if s.alg != EdDSA {
		sum := sha256.Sum256(message)
		message, opts = sum[:], crypto.SHA256
	}
	if s.alg == PS256 {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	signature, err := s.key.Sign(rand.Reader, message, opts)
	if err == nil && s.alg == ES256 {
		return fixed(signature)
	}
	return signature, err
}

// Sign returns the token with the given header and claims. It sets "alg" in header.
func Sign(key crypto.Signer, alg string, header, claims map[string]any) (string, error) {
	s, err := NewSigner(key, alg, header)
	if err != nil {
		return "", err
	}
	return s.Sign(claims)
}

// fixed returns an ECDSA signature in the form of RFC 7518 section 3.4: r and s of 32 bytes
// each, where a crypto.Signer returns ASN.1.
func fixed(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 ||
		sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.BitLen() > 256 || sig.S.BitLen() > 256 {
		return nil, errors.New("the signer returned no ECDSA signature in ASN.1")
	}
	raw := make([]byte, 64)
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	return raw, nil
}
