package endpoint

import (
	"context"
	"crypto"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/dpop"
)

// A DPoP binds logins to a key, so that their tokens are of no use to anybody else (RFC 9449):
// every request to the token endpoint and to an API has a proof that the key has signed. A login
// stays bound to the key that it was made with, and a login that was made without one stays as
// it is. Without DPoP, or with another key, a login that is bound is not used, and not harmed.
type DPoP struct {
	// Optional binds logins only at a provider that says in its metadata that it can do that
	// and, without Key, with ES256: see Endpoint.DPoPAlgorithms. Default: logins are bound,
	// and what a provider issues without binding it is discarded.
	Optional bool

	// Key is for keys that cannot leave the place where they are. It returns the one with the
	// given thumbprint (RFC 7638) or, if that is empty, the one for a new login: ECDSA on
	// P-256, RSA of at least 2048 bits, or Ed25519. ctx ends after 10 seconds, and so does
	// the wait for a signature. Default: each login gets an ECDSA key of its own, which is
	// stored and sealed with its tokens.
	Key func(ctx context.Context, thumbprint string) (crypto.Signer, error)
}

// A prover is what a client has to prove possession with.
type prover struct {
	*DPoP
	algorithms []string
	bound      *dpop.Key // the key for a new login, if it was chosen already
	servers    *dpop.Servers
}

// check says why the login of rec, which may be bound to a key, cannot be used here. No
// request is made then: providers call a refresh token that is presented without the proof, or
// with another key's, invalid.
func (p prover) check(rec *tokencache.Record) error {
	switch private, thumbprint := rec.Proof(); {
	case thumbprint == "":
	case p.DPoP == nil:
		return endpointError("DPoP", "set it: the stored login is bound to a key, and of no use without proofs")
	case private == "" && p.Key == nil:
		return endpointError("DPoP", "set its Key: the stored login is bound to a key that is elsewhere")
	}
	return nil
}

// newKey returns the key for a new login, or nil if there is to be none.
func (p prover) newKey(ctx context.Context, op string) (*dpop.Key, error) {
	switch {
	case p.bound != nil:
		return p.bound, nil
	case p.DPoP == nil, p.Optional && len(p.algorithms) == 0:
		return nil, nil
	case p.Key != nil:
		return p.keyWith(ctx, op, "", "")
	}
	key, err := dpop.Generate()
	if err != nil {
		return nil, notSent(op, "DPoP", err)
	}
	if err = p.checkAlgorithm(key); err != nil && p.Optional {
		return nil, nil // It can bind tokens, but not to such a key.
	}
	return key, err
}

// keyOf returns the key that the login of rec is bound to, or nil.
func (p prover) keyOf(ctx context.Context, op string, rec *tokencache.Record) (*dpop.Key, error) {
	private, thumbprint := rec.Proof()
	if thumbprint == "" {
		return nil, nil
	}
	return p.keyWith(ctx, op, private, thumbprint)
}

// keyWith returns the key with the given thumbprint; if that is empty, the one for a new login.
func (p prover) keyWith(ctx context.Context, op string, private tokencache.Secret, thumbprint string) (*dpop.Key, error) {
	signer, err := p.signer(ctx, op, private, thumbprint)
	if err != nil {
		return nil, err
	}
	key, unfit, err := p.servers.NewKey(ctx, signer)
	if err != nil {
		return nil, notSent(op, "DPoP", err)
	}
	if unfit != nil {
		bad := *endpointError("DPoP", "use a key that can sign proofs")
		bad.Op, bad.Err = op, unfit
		return nil, &bad
	}
	if key.Private = private; thumbprint != "" && key.Thumbprint != thumbprint {
		if private != "" {
			return nil, endpointError("DPoP", "log in again: the key in the record is not the one that its tokens are bound to")
		}
		return nil, endpointError("DPoP", "its Key has returned another key than the one that the login is bound to")
	}
	return key, p.checkAlgorithm(key)
}

// signer returns what signs for the key with the given thumbprint.
func (p prover) signer(ctx context.Context, op string, private tokencache.Secret, thumbprint string) (signer crypto.Signer, err error) {
	switch {
	case p.DPoP == nil:
		return nil, endpointError("DPoP", "set it: the stored login is bound to a key, and of no use without proofs")
	case private != "":
		if signer, err = dpop.Parse(private); err != nil {
			return nil, endpointError("DPoP", "log in again: the key in the record cannot be read")
		}
		return signer, nil
	case p.Key == nil:
		return nil, endpointError("DPoP", "set its Key: the stored login is bound to a key that is elsewhere")
	}
	if signer, err = p.servers.Find(ctx, thumbprint, p.Key); err != nil {
		return nil, notSent(op, "DPoP", err)
	}
	return signer, nil
}

// checkAlgorithm says that the provider does not know how the key signs (RFC 9449 section 5.1).
func (p prover) checkAlgorithm(key *dpop.Key) error {
	if len(p.algorithms) == 0 || slices.Contains(p.algorithms, key.Algorithm()) {
		return nil
	}
	return endpointError("DPoP", "use a key for one of the algorithms that the provider lists, "+strings.Join(p.algorithms, ", ")+": this one signs with "+key.Algorithm())
}
