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
func Normalize(typ *string) (remedy string) {
	switch strings.ToLower(*typ) {
	case "dpop", "pop", "mac":
		return "register the client for bearer tokens: the provider sent one of type " + strconv.Quote(*typ)
	case "n_a": // RFC 8693 section 2.2.1
		return "ask for an access token: the provider has issued something else (token type N_A)"
	case "bearer":
	default:
		*typ = "Bearer"
	}
	return ""
}
