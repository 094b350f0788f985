// Package pemkey reads the keys that HPKE (RFC 9180) seals to, as openssl writes them.
package pemkey

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// Parse returns the key of a block, which is public or private. Errors do not quote the block.
func Parse(block *pem.Block) (hpke.PublicKey, hpke.PrivateKey, error) {
	unusable := errors.New("want an elliptic-curve key: on P-256, P-384, P-521 or X25519")
	switch block.Type {
	case "PUBLIC KEY":
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, nil, errors.New("damaged public key, or of an unknown kind")
		}
		public, ok := parsed.(*ecdh.PublicKey)
		if ec, is := parsed.(*ecdsa.PublicKey); is {
			public, err = ec.ECDH()
			ok = err == nil
		}
		if !ok {
			return nil, nil, unusable
		}
		key, err := hpke.NewDHKEMPublicKey(public)
		return key, nil, err
	case "PRIVATE KEY":
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, nil, errors.New("damaged private key, or of an unknown kind")
		}
		private, ok := parsed.(*ecdh.PrivateKey)
		if ec, is := parsed.(*ecdsa.PrivateKey); is {
			private, err = ec.ECDH()
			ok = err == nil
		}
		if !ok {
			return nil, nil, unusable
		}
		key, err := hpke.NewDHKEMPrivateKey(private)
		return nil, key, err
	case "ENCRYPTED PRIVATE KEY":
		return nil, nil, errors.New("the private key is encrypted: decrypt it first, with openssl pkey")
	}
	return nil, nil, errors.New(`not a "PUBLIC KEY" (PKIX) nor a "PRIVATE KEY" (PKCS #8): openssl pkey converts it`)
}
