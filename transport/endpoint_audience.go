package transport

import (
	"net/url"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
)

// An ownership says which entry of the cache is a Refresher's own, and which token
// endpoint a new login belongs to.
type ownership struct {
	key      tokencache.Key // without Account
	tokenURL string

	// unnamed says that earlier versions of this module kept the login under the key
	// without Audience, see formerName.
	unnamed bool

	// asks says that each request names what its token is for.
	asks bool
}

// An identifier is a Refresher that knows whose tokens it renews.
type identifier interface {
	identity() ownership
}

func (e *Endpoint) identity() ownership {
	id := ownership{key: tokencache.Key{Issuer: e.Issuer, ClientID: e.ClientID}, tokenURL: e.TokenURL}
	if id.key.Issuer == "" {
		id.key.Issuer = e.TokenURL
	}
	asked := targets(e.Params)
	id.asks = len(asked) > 0
	for name, values := range targets(e.AuthParams) {
		asked[name] = normal(append(asked[name], values...))
	}
	id.key.Audience = asked.Encode()
	id.unnamed = id.key.Audience != ""
	return id
}

// identity differs from the Endpoint's, so that the program's own token never
// takes the place of a user's login. No issuer has a fragment (RFC 8414 section 2).
// There is no login that the scopes could be left to, so they are part of what such
// a token is for.
func (c clientCredentials) identity() ownership {
	id := c.Endpoint.identity()
	id.key.Issuer += "#client_credentials"
	asked := targets(c.Params)
	if scopes := normal(strings.Fields(c.scope())); len(scopes) > 0 {
		asked["scope"] = scopes
	}
	id.key.Audience = asked.Encode()
	id.unnamed = false // What was kept there may be for anything, and a new token costs no login.
	return id
}

// targets returns the parameters that say what a token is for: the resource of RFC
// 8707 section 2, and what providers had before it and RFC 8693 section 2.1 has too.
// Encode makes one string of them, which is another for all that differ.
func targets(params url.Values) url.Values {
	found := url.Values{}
	for _, name := range []string{"audience", "resource"} {
		if values := normal(params[name]); len(values) > 0 {
			found[name] = values
		}
	}
	return found
}

// normal returns the values in order, each once: neither order nor repetition
// means anything (RFC 6749 section 3.3, RFC 8707 section 2).
func normal(values []string) []string {
	values = slices.Compact(slices.Sorted(slices.Values(values)))
	return slices.DeleteFunc(values, func(v string) bool { return v == "" }) // not sent, see form
}
