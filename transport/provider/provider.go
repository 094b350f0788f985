// Package provider knows the particulars of authorization servers: where their endpoints are,
// how a program authenticates to them, and what it takes to get a refresh token.
//
// A [Provider] comes from a preset, such as [Google] or [Keycloak], or from the server's own
// metadata. It is plain data, made anew for each call, so every address and setting can be
// changed before it is used:
//
//	p := provider.Microsoft("contoso.onmicrosoft.com")
//	p.Origins = []string{"https://api.contoso.com"}
//	endpoint := p.Endpoint(clientID, "", "api://contoso/read")
//
// The name of a login in the cache is made from Issuer, the client's identifier, and the
// "audience" and "resource" of AuthParams. A login is bound to the TokenURL that it came from.
// Changing Issuer hides a stored login, and changing TokenURL makes its refresh an error of
// kind [transport.ErrMisconfigured]: both require a new login.
//
// The comment of each preset names what its author did not find in the provider's own
// documentation. Such an address may be wrong for you; everything else about the login still
// works.
package provider

import (
	"maps"
	"net/url"
	"slices"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A Provider is what a client needs to know about an authorization server. It is
// plain data: take a preset or the result of Discover, and change any field, for a
// sovereign cloud or a server of your own.
type Provider struct {
	Name   string // "Google"
	Issuer string // RFC 8414 issuer identifier; part of the cache key

	AuthURL       string // authorization endpoint
	TokenURL      string // token endpoint
	DeviceAuthURL string // device authorization endpoint (RFC 8628); "" if there is none
	RevocationURL string // revocation endpoint (RFC 7009); "" if there is none
	LogoutURL     string // where a refresh token ends its own session only, see endpoint.Endpoint; "" if there is none
	PARURL        string // pushed authorization request endpoint (RFC 9126); "" if there is none

	// RegistrationURL is where a Client registers itself (RFC 7591), and ReadsClientDocuments
	// says that its DocumentURL is an identifier there.
	RegistrationURL      string
	ReadsClientDocuments bool

	// Discovered says that only the server itself vouches for these addresses, as in the
	// result of Discover. If it does not send iss either, package login keeps its answers
	// apart from those of other issuers by the path that they arrive at.
	Discovered bool

	RequirePAR bool // the server accepts only pushed authorization requests
	SendsIss   bool // authorization responses carry iss (RFC 9207), so that one without is refused
	NoPKCE     bool // it lists methods of PKCE (RFC 7636), and S256 is not among them: no way to log in uses it with a code

	// AuthStyle is how a confidential client authenticates at the token endpoint.
	AuthStyle oauth2.AuthStyle

	// AuthMethods are the ways of client authentication that the metadata lists, for an
	// Endpoint with a ClientAuth. Default: any.
	AuthMethods []string

	// AuthAlgorithms are those that the metadata lists for the signatures of a ClientAuth.
	// Default: any.
	AuthAlgorithms []string

	// MTLSAliases are where clients with a certificate reach the endpoints (RFC 8705 section
	// 5), by the addresses above, for an Endpoint with a ClientCertificate. Default: there.
	MTLSAliases map[string]string

	// DPoPAlgorithms are the ways to sign proofs of possession that the metadata lists (RFC
	// 9449 section 5.1), for an Endpoint with DPoP. Default: not known.
	DPoPAlgorithms []string

	// Scopes and AuthParams, the parameters of the authorization request, are what it takes
	// to get a refresh token. An "audience" or "resource" must be set before Endpoint is
	// called, so that logins for different ones are kept apart.
	Scopes     []string
	AuthParams url.Values

	// RepeatRedirectURI and ExchangeGrant are those of endpoint.Endpoint, for providers
	// that do not refresh quite as RFC 6749 section 6 says.
	RepeatRedirectURI bool
	ExchangeGrant     string

	// IdleTime is how long a login lives that is not refreshed, and Lifetime how long any
	// login lives, whatever is done; 0 if that is not known, or if there is no end. Where
	// an administrator can change them, the presets have what holds unless somebody did.
	IdleTime, Lifetime time.Duration

	// Resource is the API that tokens are for (RFC 8707), if there is one for which they have
	// to be requested: it becomes a parameter of all requests of Endpoint.
	Resource string

	Origins []string      // of its own APIs, for transport.Config
	Lead    time.Duration // for transport.SourceConfig; 0 for the default

	named reach // who has named the server, if it was discovered
}

// Endpoint returns the token endpoint of p for a client. secret is empty for a public client.
// scopes are requested in addition to those that p needs.
func (p *Provider) Endpoint(clientID string, secret tokencache.Secret, scopes ...string) *endpoint.Endpoint {
	e := &endpoint.Endpoint{
		Issuer:         p.Issuer,
		TokenURL:       p.TokenURL,
		RevocationURL:  p.RevocationURL,
		LogoutURL:      p.LogoutURL,
		ClientID:       clientID,
		ClientSecret:   secret,
		AuthStyle:      p.AuthStyle,
		AuthMethods:    slices.Clone(p.AuthMethods),
		AuthAlgorithms: slices.Clone(p.AuthAlgorithms),
		MTLSAliases:    maps.Clone(p.MTLSAliases),
		Scopes:         slices.Clone(scopes),

		DPoPAlgorithms:    slices.Clone(p.DPoPAlgorithms),
		RepeatRedirectURI: p.RepeatRedirectURI,
		ExchangeGrant:     p.ExchangeGrant,
		IdleTime:          p.IdleTime,
		Lifetime:          p.Lifetime,
	}
	if len(p.AuthParams) > 0 {
		e.AuthParams = make(url.Values, len(p.AuthParams))
		for name, values := range p.AuthParams {
			e.AuthParams[name] = slices.Clone(values)
		}
	}
	if p.Resource != "" {
		e.Params = url.Values{"resource": {p.Resource}}
	}
	for _, s := range p.Scopes {
		if !slices.Contains(e.Scopes, s) {
			e.Scopes = append(e.Scopes, s)
		}
	}
	return e
}
