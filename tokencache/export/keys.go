package export

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// ParsePublicKey returns the key of a PEM file "PUBLIC KEY" (RFC 7468), as openssl writes it.
// It must be a key on one of the curves P-256, P-384, P-521 and X25519.
func ParsePublicKey(file []byte) (hpke.PublicKey, error) {
	der, err := block(file, "PUBLIC KEY", "make it with: openssl pkey -in private.pem -pubout")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errors.New("export: the public key is damaged, or of a kind that is not known")
	}
	if k, ok := key.(*ecdsa.PublicKey); ok {
		if key, err = k.ECDH(); err != nil {
			return nil, errKind
		}
	}
	k, ok := key.(*ecdh.PublicKey)
	if !ok {
		return nil, errKind
	}
	return hpke.NewDHKEMPublicKey(k)
}

// ParsePrivateKey returns the key of a PEM file "PRIVATE KEY" (PKCS #8) that is not encrypted,
// as openssl writes it. Errors hold nothing of the file.
func ParsePrivateKey(file []byte) (hpke.PrivateKey, error) {
	der, err := block(file, "PRIVATE KEY", "convert it with: openssl pkey -in private.pem")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("export: the private key is damaged, or of a kind that is not known")
	}
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		if key, err = k.ECDH(); err != nil {
			return nil, errKind
		}
	}
	k, ok := key.(*ecdh.PrivateKey)
	if !ok {
		return nil, errKind
	}
	return hpke.NewDHKEMPrivateKey(k)
}

var errKind = errors.New("export: a key on the curve P-256 is needed, made with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256")

// block returns the content of the first PEM block, which must be of the type.
func block(file []byte, typ, remedy string) ([]byte, error) {
	b, _ := pem.Decode(file)
	switch {
	case b == nil:
		return nil, fmt.Errorf("export: this is no PEM file with a %q", typ)
	case b.Type != typ:
		return nil, fmt.Errorf("export: the PEM file has no %q, but something else; %s", typ, remedy)
	}
	return b.Bytes, nil
}
