package clientauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
)

// A jwk is a private key in JSON (RFC 7517; the members are those of RFC 7518 section 6 and RFC
// 8037 section 2).
type jwk struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`

	X, Y, D    octets
	N, E, P, Q octets
}

// octets are bytes in base64url (RFC 7515 section 2).
type octets []byte

func (o *octets) UnmarshalText(text []byte) (err error) {
	*o, err = base64.RawURLEncoding.DecodeString(string(text))
	return err
}

func (o octets) number() *big.Int { return new(big.Int).SetBytes(o) }

// maxModulus bounds the work that a file can make, in bytes.
const maxModulus = 2048

var errJWK = errors.New("its JSON Web Key is damaged, or of a kind that cannot sign")

// parseJWK returns the key of a JSON Web Key, with its name and, where there is a choice, its
// algorithm.
func parseJWK(data []byte) (*Key, error) {
	var k jwk
	if json.Unmarshal(data, &k) != nil { // whose error may show some of it
		return nil, errJWK
	}
	if k.Type == "" || len(k.D) == 0 {
		return nil, errors.New("it holds no private key: a JSON Web Key is private if it has the member d")
	}
	signer, err := k.signer()
	if err != nil {
		return nil, errJWK
	}
	key := &Key{Signer: signer, ID: k.ID}
	if k.Type == "RSA" {
		key.Algorithm = k.Algorithm
	}
	return key, nil
}

// signer returns the key, if both of its halves are there and belong together.
func (k *jwk) signer() (crypto.Signer, error) {
	switch {
	case k.Type == "EC" && k.Curve == "P-256":
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.D)
		if err != nil {
			return nil, err
		}
		point, err := key.PublicKey.Bytes() // SEC 1: 4, and both coordinates
		if err != nil || !bytes.Equal(point[1:], append(bytes.Clone(k.X), k.Y...)) {
			return nil, errJWK
		}
		return key, nil
	case k.Type == "OKP" && k.Curve == "Ed25519" && len(k.D) == ed25519.SeedSize:
		key := ed25519.NewKeyFromSeed(k.D)
		if !bytes.Equal(key.Public().(ed25519.PublicKey), k.X) {
			return nil, errJWK
		}
		return key, nil
	case k.Type == "RSA" && len(k.N) <= maxModulus && len(k.D) <= maxModulus && len(k.P) <= maxModulus && len(k.Q) <= maxModulus && len(k.E) <= 4:
		key := &rsa.PrivateKey{
			PublicKey: rsa.PublicKey{N: k.N.number(), E: int(k.E.number().Int64())},
			D:         k.D.number(), Primes: []*big.Int{k.P.number(), k.Q.number()},
		}
		for _, n := range []*big.Int{key.N, key.D, key.Primes[0], key.Primes[1]} {
			if n.Sign() <= 0 {
				return nil, errJWK
			}
		}
		key.Precompute()
		return key, key.Validate()
	}
	return nil, errJWK
}
