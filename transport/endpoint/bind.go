package endpoint

import (
	"context"
	"crypto"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/dpop"
)

// Bind returns a copy of e for one login, whose Exchange, Grant and Post use one key: for
// programs whose authorization request says with dpop_jkt which key that is (RFC 9449 section
// 10). A Post whose parameters have dpop_jkt proves that the program has the key. The arguments
// are what Proof of an earlier copy has returned, in another process perhaps, or empty for a new
// key. Without DPoP, Bind returns e.
func (e *Endpoint) Bind(ctx context.Context, private tokencache.Secret, thumbprint string) (*Endpoint, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	var key *dpop.Key
	var err error
	if thumbprint != "" {
		key, err = e.prover().keyWith(ctx, "login", private, thumbprint)
	} else {
		key, err = e.prover().newKey(ctx, "login")
	}
	if err != nil {
		return nil, err
	}
	if key == nil {
		return e, nil
	}
	e.shared() // What copies have in common has to be there.
	bound := *e
	bound.bound = key
	return &bound, nil
}

// Proof returns the key that Bind has chosen, as tokencache.Record has it. private is empty if
// the key is elsewhere, and both are empty if e comes from nowhere or is not to bind anything.
func (e *Endpoint) Proof() (private tokencache.Secret, thumbprint string) {
	if e.bound == nil {
		return "", ""
	}
	return e.bound.Private, e.bound.Thumbprint
}

// ProofKey returns the key that the login of rec is bound to.
func (e *Endpoint) ProofKey(ctx context.Context, rec *tokencache.Record) (crypto.Signer, error) {
	private, thumbprint := rec.Proof()
	return e.prover().signer(ctx, "token", private, thumbprint)
}
