package tokencache

import (
	"bytes"
	"context"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/stayauth/stayauth/tokencache/internal/pemkey"
)

// PublicKeyWrapper returns a KeyWrapper that wraps data keys with a public key, by HPKE (RFC
// 9180), so that only the holder of its private half opens them. The keys are PEM blocks, in
// one text: "PUBLIC KEY" (PKIX) or "PRIVATE KEY" (PKCS #8, which has the public half too), on
// the curves P-256, which also works in FIPS 140-only mode, P-384, P-521 and X25519:
//
//	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem
//	openssl pkey -in private.pem -pubout -out public.pem
//
// The first key wraps, and every private key opens, so put a new key before the old ones. A
// process that has no private key can store logins, and keep them alive as long as it runs: it
// suits a front end that others read for. But then anybody who has the public key and can
// write to the store can put a login of their own there, as nobody can who would have to ask a
// KMS.
func PublicKeyWrapper(pemKeys []byte) (KeyWrapper, error) {
	keys, err := parseHPKEKeys(pemKeys)
	if err != nil {
		return nil, fmt.Errorf("PublicKeyWrapper: %w", err)
	}
	return publicKeyWrapper{hide(keys)}, nil
}

type publicKeyWrapper struct{ keys hidden[hpkeKeys] }

// dataKeyInfo keeps wrapped data keys apart from all else that is sealed to the same public
// key (RFC 9180 section 8.1).
const dataKeyInfo = "stayauth data key v1"

// WrapKey implements KeyWrapper.
func (w publicKeyWrapper) WrapKey(_ context.Context, key []byte) (WrappedKey, error) {
	public := w.keys().public
	data, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(dataKeyInfo), key)
	return WrappedKey{KeyID: hpkeKeyID(public), Data: data}, err
}

// UnwrapKey implements KeyWrapper.
func (w publicKeyWrapper) UnwrapKey(_ context.Context, wrapped WrappedKey) ([]byte, error) {
	for _, private := range w.keys().private {
		if hpkeKeyID(private.PublicKey()) != wrapped.KeyID {
			continue
		}
		key, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(dataKeyInfo), wrapped.Data)
		if err != nil {
			return nil, fmt.Errorf("%w: the wrapped data key fails authentication", ErrCorrupt)
		}
		return key, nil
	}
	return nil, fmt.Errorf("%w: the private half of public key %.32q is not here", ErrCorrupt, wrapped.KeyID)
}

// String says, for Cache.KeyPlace, which public key wraps.
func (w publicKeyWrapper) String() string { return "public key " + hpkeKeyID(w.keys().public) }

// hpkeKeys are keys to which something is sealed: the public one that is to be used, and every
// private one.
type hpkeKeys struct {
	public  hpke.PublicKey
	private []hpke.PrivateKey
}

// hpkeKeyID returns a name of a public key.
func hpkeKeyID(public hpke.PublicKey) string {
	id := sha256.Sum256(fmt.Appendf(nil, "stayauth public key v1 %d %s", public.KEM().ID(), public.Bytes()))
	return hex.EncodeToString(id[:16])
}

// parseHPKEKeys returns the keys of a PEM text. Its errors do not quote it.
func parseHPKEKeys(pemKeys []byte) (keys hpkeKeys, err error) {
	for n := 1; ; n++ {
		block, rest := pem.Decode(pemKeys)
		if block == nil {
			break
		}
		pemKeys = rest
		public, private, err := pemkey.Parse(block)
		if err != nil {
			return hpkeKeys{}, fmt.Errorf("PEM block %d: %w", n, err)
		}
		if private != nil {
			keys.private = append(keys.private, private)
			public = private.PublicKey()
		}
		if keys.public == nil {
			keys.public = public
		}
	}
	switch {
	case keys.public == nil:
		return hpkeKeys{}, errors.New(`no key was found: want PEM, "-----BEGIN PUBLIC KEY-----" or "-----BEGIN PRIVATE KEY-----"`)
	case len(bytes.TrimSpace(pemKeys)) > 0:
		return hpkeKeys{}, errors.New("something that is not PEM follows the last key")
	}
	return keys, nil
}
