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

// Sign returns the token with the given header and claims. It sets "alg" in header.
func Sign(signer crypto.Signer, alg string, header, claims map[string]any) (string, error) {
	alg, err := Algorithm(signer.Public(), alg)
	if err != nil {
		return "", err
	}
	header["alg"] = alg
	signed, err := input(header, claims)
	if err != nil {
		return "", err
	}
	message, opts := []byte(signed), crypto.SignerOpts(crypto.Hash(0))
	if alg != EdDSA {
		sum := sha256.Sum256(message)
		message, opts = sum[:], crypto.SHA256
	}
	if alg == PS256 {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	signature, err := signer.Sign(rand.Reader, message, opts)
	if err != nil {
		return "", err
	}
	if alg == ES256 {
		if signature, err = fixed(signature); err != nil {
			return "", err
		}
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// input returns what is signed (RFC 7515 section 5.1).
func input(header, claims map[string]any) (string, error) {
	var parts [2]string
	for i, part := range []map[string]any{header, claims} {
		text, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts[i] = base64.RawURLEncoding.EncodeToString(text)
	}
	return parts[0] + "." + parts[1], nil
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
