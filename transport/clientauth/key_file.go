package clientauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"

	"github.com/stayauth/stayauth/transport/internal/smallfile"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// KeyFile returns a function for PrivateKey.Key that reads the key from a PEM file, called id at
// the provider: PKCS #8 ("PRIVATE KEY"), PKCS #1 ("RSA PRIVATE KEY") or SEC 1 ("EC PRIVATE
// KEY"), not encrypted. If certificates follow, the one of the key is Key.Certificate. A file
// that is replaced is noticed at the next request; while it holds no whole key, because it is
// being written, the old key remains in use.
//
// The file may also hold a private JSON Web Key (RFC 7517), which says by itself what it is
// called: then id is "". A provider that looks keys up by name, such as Keycloak, needs that
// where keys are to be rotated while programs run.
func KeyFile(path, id string) func(ctx context.Context) (*Key, error) {
	var mu sync.Mutex
	var content []byte
	var key *Key
	return func(context.Context) (*Key, error) {
		mu.Lock()
		defer mu.Unlock()
		now, err := smallfile.Read(path)
		if err == nil && (key == nil || !bytes.Equal(now, content)) {
			var parsed *Key
			if parsed, err = ParseKey(now); err == nil {
				parsed.ID = cmp.Or(id, parsed.ID)
				content, key = now, parsed
			}
		}
		if key == nil {
			return nil, statement.Misconfigured("KeyFile", "put a private key there, in PEM or as a JSON Web Key", fmt.Errorf("%s: %w", path, err))
		}
		return key, nil
	}
}

// ParseKey returns the private key of a text such as KeyFile reads: from a secret manager, for
// instance. No error shows anything of it.
func ParseKey(data []byte) (*Key, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return parseJWK(data)
	}
	var key *Key
	var certificates []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			if c, err := x509.ParseCertificate(block.Bytes); err == nil {
				certificates = append(certificates, c)
			}
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the key is encrypted: decrypt it, with openssl pkey for instance, and protect the file")
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			if key != nil {
				return nil, errors.New("it holds more than one private key")
			}
			signer, err := parseSigner(block)
			if err != nil {
				return nil, err
			}
			key = &Key{Signer: signer}
		}
	}
	if key == nil {
		return nil, errors.New("it holds no private key in PEM")
	}
	for _, c := range certificates {
		if public, ok := key.Signer.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && public.Equal(c.PublicKey) {
			key.Certificate = c
			break
		}
	}
	return key, nil
}

func parseSigner(block *pem.Block) (crypto.Signer, error) {
	var parsed any
	var err error
	switch {
	case block.Headers["DEK-Info"] != "":
		return nil, errors.New("the key is encrypted: decrypt it, with openssl pkey for instance, and protect the file")
	case block.Type == "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	signer, ok := parsed.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("its private key is damaged, or of a kind that cannot sign")
	}
	return signer, nil
}
