package export

import (
	"crypto/hpke"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/stayauth/stayauth/tokencache/internal/pemkey"
)

// ParsePublicKey returns the key of a PEM file "PUBLIC KEY" (RFC 7468), as openssl writes it.
// It must be a key on one of the curves P-256, P-384, P-521 and X25519.
func ParsePublicKey(file []byte) (hpke.PublicKey, error) {
	public, _, err := parse(file)
	if err == nil && public == nil {
		err = errors.New("this is the private key, which the holder keeps: openssl pkey -in private.pem -pubout prints the public one")
	}
	if err != nil {
		return nil, fmt.Errorf("export: public key: %w", err)
	}
	return public, nil
}

// ParsePrivateKey returns the key of a PEM file "PRIVATE KEY" (PKCS #8) that is not encrypted,
// as openssl writes it. Errors hold nothing of the file.
func ParsePrivateKey(file []byte) (hpke.PrivateKey, error) {
	_, private, err := parse(file)
	if err == nil && private == nil {
		err = errors.New("this is the public key: the private one is needed to read an export")
	}
	if err != nil {
		return nil, fmt.Errorf("export: private key: %w", err)
	}
	return private, nil
}

// parse returns the key of the first PEM block.
func parse(file []byte) (hpke.PublicKey, hpke.PrivateKey, error) {
	block, _ := pem.Decode(file)
	if block == nil {
		return nil, nil, errors.New("this is not a PEM file")
	}
	return pemkey.Parse(block)
}
