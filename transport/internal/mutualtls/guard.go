package mutualtls

import (
	"crypto"
	"crypto/tls"
	"fmt"
	"io"
)

// guarded returns hook, such that a panic of it, or of the key that it returns, is an error: it is
// called on a goroutine of net/http, where nobody could recover, and would end the program. A key
// may be in a hardware module, as that of a clientauth.PrivateKey may.
func guarded(hook Hook) Hook {
	return func(info *tls.CertificateRequestInfo) (c *tls.Certificate, err error) {
		defer recovered(&err)
		if c, err = hook(info); c == nil {
			return new(tls.Certificate), err // none
		}
		with := *c
		switch key := c.PrivateKey.(type) {
		case crypto.MessageSigner:
			with.PrivateKey = messageSigner{signer{key}, key}
		case crypto.Signer:
			with.PrivateKey = signer{key}
		}
		return &with, err
	}
}

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the client's certificate or its key has panicked with a %T", p)
	}
}

type signer struct{ crypto.Signer }

func (s signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	defer recovered(&err)
	return s.Signer.Sign(rand, digest, opts)
}

// A messageSigner hashes by itself.
type messageSigner struct {
	signer
	key crypto.MessageSigner
}

func (s messageSigner) SignMessage(rand io.Reader, message []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	defer recovered(&err)
	return s.key.SignMessage(rand, message, opts)
}
