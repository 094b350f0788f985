// Package publickey protects the data keys of enveloped records with a public key, by HPKE (RFC
// 9180), so that only the holder of its private half opens them.
//
//	wrapper, err := publickey.NewWrapper(pemKeys)
//	...
//	cache, err := tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: wrapper})
//
// It needs no server. What opens the logins need not lie where they are stored or backed up.
package publickey

import (
	"bytes"
	"context"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/internal/pemkey"
)

// A Wrapper is a tokencache.KeyWrapper. It shows no key when it is printed.
type Wrapper struct {
	keys func() keys // a function prints as an address
}

// NewWrapper returns a Wrapper with the given keys. They are PEM blocks, in one text: "PUBLIC
// KEY" (PKIX) or "PRIVATE KEY" (PKCS #8, which has the public half too), on the curves P-256,
// which also works in FIPS 140-only mode, P-384, P-521 and X25519:
//
//	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem
//	openssl pkey -in private.pem -pubout -out public.pem
//
// The first key wraps, and every private key opens, so put a new key before the old ones.
// tokencache.Cache.Rekey wraps anew what was wrapped with those.
//
// A process that has no private key can store logins, and keep them alive as long as it runs: a
// front end, say, whose logins only a worker uses later. But anybody who has the public key and
// can write to the store can put a login of their own there, as nobody can who would have to
// ask a KMS.
func NewWrapper(pemKeys []byte) (*Wrapper, error) {
	parsed, err := parse(pemKeys)
	if err != nil {
		return nil, fmt.Errorf("publickey: %w", err)
	}
	return &Wrapper{keys: func() keys { return parsed }}, nil
}

// info keeps wrapped data keys apart from all else that is sealed to the same public
// key (RFC 9180 section 8.1).
const info = "stayauth data key v1"

// WrapKey implements tokencache.KeyWrapper.
func (w *Wrapper) WrapKey(_ context.Context, key []byte) (tokencache.WrappedKey, error) {
	public := w.keys().public
	data, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info), key)
	return tokencache.WrappedKey{KeyID: keyID(public), Data: data}, err
}

// UnwrapKey implements tokencache.KeyWrapper.
func (w *Wrapper) UnwrapKey(_ context.Context, wrapped tokencache.WrappedKey) ([]byte, error) {
	for _, private := range w.keys().private {
		if keyID(private.PublicKey()) != wrapped.KeyID {
			continue
		}
		key, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info), wrapped.Data)
		if err != nil {
			return nil, fmt.Errorf("%w: the wrapped data key fails authentication", tokencache.ErrCorrupt)
		}
		return key, nil
	}
	return nil, fmt.Errorf("%w: the private half of public key %.32q is not here", tokencache.ErrCorrupt, wrapped.KeyID)
}

// String says, for Cache.KeyPlace, which public key wraps.
func (w *Wrapper) String() string { return "public key " + keyID(w.keys().public) }

// keys are keys to which something is sealed: the public one that is to be used, and every
// private one.
type keys struct {
	public  hpke.PublicKey
	private []hpke.PrivateKey
}

// keyID returns a name of a public key.
func keyID(public hpke.PublicKey) string {
	id := sha256.Sum256(fmt.Appendf(nil, "stayauth public key v1 %d %s", public.KEM().ID(), public.Bytes()))
	return hex.EncodeToString(id[:16])
}

// parse returns the keys of a PEM text. Its errors do not quote it.
func parse(pemKeys []byte) (all keys, err error) {
	for n := 1; ; n++ {
		block, rest := pem.Decode(pemKeys)
		if block == nil {
			break
		}
		pemKeys = rest
		public, private, err := pemkey.Parse(block)
		if err != nil {
			return keys{}, fmt.Errorf("PEM block %d: %w", n, err)
		}
		if private != nil {
			all.private = append(all.private, private)
			public = private.PublicKey()
		}
		if all.public == nil {
			all.public = public
		}
	}
	switch {
	case all.public == nil:
		return keys{}, errors.New(`no key was found: want PEM, "-----BEGIN PUBLIC KEY-----" or "-----BEGIN PRIVATE KEY-----"`)
	case len(bytes.TrimSpace(pemKeys)) > 0:
		return keys{}, errors.New("something that is not PEM follows the last key")
	}
	return all, nil
}
