package clientauth

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// A Key is a private key that signs for a client.
type Key struct {
	// Signer is the key: ECDSA on P-256, RSA of at least 2048 bits, or Ed25519. A key
	// service or a hardware module may be behind it, which is asked for 16 signatures at a
	// time at most. Required.
	Signer crypto.Signer

	// Algorithm is the one to sign with (RFC 7518 section 3.1, RFC 8037 section 3.1). It is
	// needed only for an RSA key that is to sign with "PS256" at a provider that takes "RS256"
	// as well. Default: "ES256", "RS256" or "EdDSA", whichever fits the key, and "PS256"
	// if the Endpoint.AuthAlgorithms do not list "RS256", as those of provider.Microsoft.
	Algorithm string

	// ID names the key at the provider ("kid"). Default: none, which is enough if the
	// provider knows one key of this client.
	ID string

	// Certificate is the one by which Microsoft Entra knows the key: its SHA-256 thumbprint
	// is sent ("x5t#S256", RFC 7515 section 4.1.8). Default: none.
	Certificate *x509.Certificate
}

// Format prints which key this is, whatever the verb, and nothing of Signer.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "Key{ID: %q}", k.ID) }

// MarshalText returns the same; encoding/json uses it too, and so does a log in JSON.
func (k Key) MarshalText() ([]byte, error) { return fmt.Append(nil, k), nil }

// A PrivateKey authenticates a client by statements that its private key signs
// (private_key_jwt, RFC 7523 section 2.2). The fields must not be changed after the first use.
type PrivateKey struct {
	// Key returns the key to sign with. It is called for every request, so a key that has
	// been replaced is in use from then on. See KeyFile; a function that returns what it
	// holds is enough for a key that never changes. Required.
	Key func(ctx context.Context) (*Key, error)

	// Audience is who the statement is for ("aud", always one string). Default: the issuer.
	Audience string

	// EndpointAudience makes the endpoint that is asked the audience, as Okta and Microsoft Entra
	// want it: another one for a revocation than for a token.
	EndpointAudience bool

	// Lifetime is how long a statement is good: ten minutes at most, and some providers accept
	// less. Default: one minute.
	Lifetime time.Duration

	// Type is the "typ" of the statement: RFC 7523 has none, and some providers want
	// "client-authentication+jwt". Default: "JWT".
	Type string

	turns statement.Turns
}

const (
	defaultLifetime = time.Minute
	maxLifetime     = 10 * time.Minute
)

// Method implements endpoint.ClientAuth.
func (p *PrivateKey) Method() string { return "private_key_jwt" }

// Authenticate implements endpoint.ClientAuth.
func (p *PrivateKey) Authenticate(ctx context.Context, r *endpoint.AuthRequest) error {
	if p == nil || p.Key == nil {
		return statement.Misconfigured("PrivateKey.Key", "set it: KeyFile returns such a function", nil)
	}
	lifetime := cmp.Or(p.Lifetime, defaultLifetime)
	switch {
	case p.EndpointAudience && p.Audience != "":
		return statement.Misconfigured("PrivateKey.Audience", "remove it, or EndpointAudience", nil)
	case lifetime < 0 || lifetime > maxLifetime:
		return statement.Misconfigured("PrivateKey.Lifetime", "use ten minutes at most, or 0 for one minute", nil)
	}
	audience := cmp.Or(p.Audience, r.Issuer)
	if p.EndpointAudience {
		audience = r.URL
	}
	key := func() (*statement.Key, error) { k, err := p.Key(ctx); return (*statement.Key)(k), err }
	signed, err := p.turns.Make(ctx, "PrivateKey.Key", key, statement.Statement{
		Type: p.Type, Issuer: r.ClientID, Subject: r.ClientID, Audience: audience, Now: r.Now, Lifetime: lifetime, Algorithms: r.Algorithms,
	})
	if err != nil {
		return err
	}
	assert(r, signed)
	return nil
}

// assertionType says what kind of statement client_assertion is (RFC 7523 section 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

func assert(r *endpoint.AuthRequest, assertion string) {
	r.Form.Set("client_assertion_type", assertionType)
	r.Form.Set("client_assertion", assertion)
}
