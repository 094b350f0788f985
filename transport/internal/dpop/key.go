// Package dpop proves the possession of a key (RFC 9449).
package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/jws"
)

// A Key is one that tokens are bound to.
type Key struct {
	Private    tokencache.Secret // PKCS #8, DER; empty if the key cannot leave its place
	Thumbprint string            // of the public key (RFC 7638)

	signer *jws.Signer
	local  bool // it signs at once, without asking anybody
}

// NewKey returns a key that signs with whatever is behind signer: ECDSA on P-256, RSA of at
// least 2048 bits, or Ed25519. One that panics when it is asked which key it is, as a nil
// *ecdsa.PrivateKey does, is none.
func NewKey(signer crypto.Signer) (k *Key, err error) {
	if signer == nil {
		return nil, errors.New("there is no key")
	}
	defer func() {
		if p := recover(); p != nil {
			k, err = nil, fmt.Errorf("there is no key behind the %T: it has panicked with a %T", signer, p)
		}
	}()
	public := signer.Public()
	alg := ""
	if _, ok := public.(*rsa.PublicKey); ok {
		alg = jws.PS256 // RFC 9449 leaves the choice; FAPI 2.0 section 5.4.1 allows no other for RSA.
	}
	jwk := jws.JWK(public)
	s, err := jws.NewSigner(signer, alg, map[string]any{"typ": "dpop+jwt", "jwk": jwk})
	if err != nil {
		return nil, err
	}
	return &Key{Thumbprint: jws.Thumbprint(jwk), signer: s, local: isLocal(signer)}, nil
}

// isLocal reports whether a key is in the memory of this process.
func isLocal(signer crypto.Signer) bool {
	switch signer.(type) {
	case nil, *ecdsa.PrivateKey, *rsa.PrivateKey, ed25519.PrivateKey:
		return true
	}
	return false
}

// Algorithm is the one that the key signs with, as metadata names it.
func (k *Key) Algorithm() string { return k.signer.Algorithm() }

// Generate returns a new key: ECDSA on P-256, which every server has to know (RFC 9449
// section 11.6 leaves the choice, and all metadata seen so far lists ES256).
func Generate() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return portable(private)
}

// portable returns a key that can be stored.
func portable(private *ecdsa.PrivateKey) (*Key, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	k, err := NewKey(private)
	if err == nil {
		k.Private = tokencache.Secret(der)
	}
	return k, err
}

// Parse returns the signer that Key.Private holds. The error does not quote it.
func Parse(private tokencache.Secret) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey([]byte(private))
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("it is no private key that can sign")
	}
	return signer, nil
}

// Compact returns a key of Generate in as few bytes as possible, for a cookie: it is a secret. Of
// a key that is elsewhere it is the thumbprint, and of none it is empty.
func Compact(private tokencache.Secret, thumbprint string) string {
	switch {
	case thumbprint == "":
		return ""
	case private == "":
		return elsewhere + thumbprint
	}
	signer, err := Parse(private)
	if err != nil {
		return ""
	}
	ec, ok := signer.(*ecdsa.PrivateKey)
	if !ok {
		return ""
	}
	number, err := ec.Bytes()
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(number)
}

const elsewhere = "@"

// Expand returns what Compact was given.
func Expand(compact string) (private tokencache.Secret, thumbprint string, err error) {
	if thumbprint, ok := strings.CutPrefix(compact, elsewhere); ok {
		return "", thumbprint, nil
	}
	number, err := base64.RawURLEncoding.Strict().DecodeString(compact)
	if err != nil || strings.ContainsAny(compact, "\r\n") { // which the decoder skips
		return "", "", errors.New("it is no key")
	}
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), number)
	if err != nil {
		return "", "", errors.New("it is no key on P-256")
	}
	k, err := portable(ec)
	if err != nil {
		return "", "", err
	}
	return k.Private, k.Thumbprint, nil
}
