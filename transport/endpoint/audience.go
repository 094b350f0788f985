package endpoint

import (
	"cmp"
	"net/url"
	"slices"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// Identity says which entries of the cache hold e's logins: their keys consist of Issuer,
// ClientID and what the tokens are for, see Params.
func (e *Endpoint) Identity() transport.Identity {
	id := transport.Identity{
		Key:      tokencache.Key{Issuer: cmp.Or(e.Issuer, e.TokenURL), ClientID: e.ClientID},
		TokenURL: e.TokenURL,
		IdleTime: e.IdleTime,
		Lifetime: e.Lifetime,
		Gate:     &e.shared().gate,
	}
	asked := targets(e.Params)
	id.NamesAudience = len(asked) > 0
	for name, values := range targets(e.AuthParams) {
		asked[name] = normal(append(asked[name], values...))
	}
	id.Key.Audience = asked.Encode()
	id.Former = id.Key.Audience != ""
	return id
}

// targets returns the parameters that say what a token is for: the resource of RFC 8707 section
// 2, and the audience that providers had before it, and RFC 8693 section 2.1 has too. Encode
// makes one string of them, which is different for different targets.
func targets(params url.Values) url.Values {
	found := url.Values{}
	for _, name := range []string{"audience", "resource"} {
		if values := normal(params[name]); len(values) > 0 {
			found[name] = values
		}
	}
	return found
}

// normal returns the values sorted, each once: neither order nor repetition means anything (RFC
// 6749 section 3.3, RFC 8707 section 2).
func normal(values []string) []string {
	values = slices.Compact(slices.Sorted(slices.Values(values)))
	return slices.DeleteFunc(values, func(v string) bool { return v == "" }) // not sent, see form
}
