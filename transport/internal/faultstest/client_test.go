package faultstest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"golang.org/x/oauth2"
)

// A client is how the programs tell the provider who they are: by a secret; by statements that
// are good for one request each (RFC 7523), which Key signs; or not at all, and then all tokens
// are bound to Key (RFC 9449), for which proofs are needed that are good for one request.
type client struct {
	ID, Secret string
	Key        []byte // an ECDSA key, PKCS #8
	Bound      bool
}

// clientEnv makes all worlds have a client of one kind: "secret", "key" or "bound". Otherwise the
// seed decides.
const clientEnv = "STAYAUTH_FAULTS_CLIENT"

// expected reports whether there are clients of this kind among many.
func expected(kind string) bool {
	only := os.Getenv(clientEnv)
	return only == "" || only == kind
}

// newClient returns a client of one of the kinds.
func newClient(seed uint64, kinds ...string) (c client, err error) {
	kind := kinds[seed%uint64(len(kinds))]
	if k := os.Getenv(clientEnv); slices.Contains(kinds, k) {
		kind = k
	}
	if kind == "secret" {
		return client{}, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		c.Key, err = x509.MarshalPKCS8PrivateKey(key)
	}
	c.Bound = kind == "bound"
	return c, err
}

// serve returns a provider that knows the client.
func (c *client) serve(cfg oauthtest.Config) *oauthtest.Server {
	switch {
	case c.Bound:
		cfg.AuthStyle = oauthtest.AuthNone
		cfg.DPoP.Mode, cfg.DPoP.APINonces = oauthtest.DPoPRequired, true
	case c.Key != nil:
		cfg.AuthStyle, cfg.ClientKeys = oauthtest.AuthPrivateKey, []crypto.PublicKey{c.signer().Public()}
	}
	s := oauthtest.New(cfg)
	c.ID, c.Secret = s.ClientID(), s.ClientSecret()
	return s
}

// states reports whether statements about the client are sent.
func (c client) states() bool { return c.Key != nil && !c.Bound }

// signer returns the key.
func (c client) signer() crypto.Signer {
	key, err := x509.ParsePKCS8PrivateKey(c.Key)
	if err != nil {
		panic(err) // It comes from newClient.
	}
	return key.(*ecdsa.PrivateKey)
}

// login is a new login at the provider.
func (c client) login(s *oauthtest.Server, account string) oauthtest.Tokens {
	if c.Bound {
		return s.LoginBound(account, c.signer().Public())
	}
	return s.Login(account)
}

// record returns a login as a flow does.
func (c client) record(t oauthtest.Tokens) *tokencache.Record {
	r := t.Record()
	if c.Bound {
		r.Bind(tokencache.Secret(c.Key), t.Thumbprint)
	}
	return r
}

// endpoint completes an Endpoint.
func (c client) endpoint(e *endpoint.Endpoint) *endpoint.Endpoint {
	e.ClientID, e.ClientSecret, e.AuthStyle = c.ID, tokencache.Secret(c.Secret), oauth2.AuthStyleInHeader
	switch {
	case c.Bound:
		e.DPoP = &endpoint.DPoP{}
	case c.Key != nil:
		e.ClientAuth = &clientauth.PrivateKey{Audience: strings.TrimSuffix(e.TokenURL, "/token"), Key: func(context.Context) (*clientauth.Key, error) {
			return &clientauth.Key{Signer: c.signer()}, nil
		}}
	}
	return e
}

// strayProofs says what must not be about the proofs that a provider has seen, of all processes.
func strayProofs(n oauthtest.Counts) string {
	if n.RepeatedProofs+n.StrayNonces+n.Downgrades == 0 {
		return ""
	}
	return fmt.Sprintf("%d proofs were sent twice, %d with the nonce of another server, and %d bound tokens without one", n.RepeatedProofs, n.StrayNonces, n.Downgrades)
}
