// Package bearer tells bearer tokens from others.
package bearer

import (
	"strconv"
	"strings"
)

// Normalize sets typ to the type of a bearer token (RFC 6750), whatever the provider calls it:
// Slack names it after its owner, eBay "User Access Token", Azure DevOps "jwt-bearer". For a
// type that is not a bearer token it returns what to do about it instead. A client must not use
// a type that it does not understand (RFC 6749 section 7.1), but that rule is about tokens that
// need a proof, and the names of those are registered.
//
// bound says that the token must be bound to a key, of which there was a proof: then a bearer
// token is none that may be used (RFC 9449 section 5).
func Normalize(typ *string, bound bool) (remedy string) {
	switch kind := strings.ToLower(*typ); {
	case bound && kind == "dpop":
		*typ = "DPoP"
	case bound:
		return "turn DPoP on for this client at the provider, or clear Endpoint.DPoP: the access token was discarded, because it is bound to no key"
	case kind == "dpop":
		return "set Endpoint.DPoP, or register the client for bearer tokens: the provider sent one of type " + strconv.Quote(*typ)
	case kind == "pop", kind == "mac":
		return "register the client for bearer tokens: the provider sent one of type " + strconv.Quote(*typ)
	case kind == "n_a": // RFC 8693 section 2.2.1
		return "ask for an access token: the provider has issued something else (token type N_A)"
	case kind == "bearer":
	default:
		*typ = "Bearer"
	}
	return ""
}
