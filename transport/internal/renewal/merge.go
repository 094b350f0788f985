// Package renewal knows how the answer to a refresh changes a login.
package renewal

import (
	"maps"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// AskedFor is the member of Record.Extra with the resources (RFC 8707) that the authorization
// request of a login named, as a query, if its Endpoint does not name them.
const AskedFor = "login.asked"

// Merge applies the provider's answer to next, which holds the login as it was.
func Merge(next, answer *tokencache.Record) {
	if answer.AccessToken != "" {
		next.AccessToken, next.TokenType = answer.AccessToken, answer.TokenType
		next.ObtainedAt, next.Expiry, next.RefreshAt = answer.ObtainedAt, answer.Expiry, answer.RefreshAt
	}
	// An answer without a refresh token, scope or identity leaves those as they are
	// (RFC 6749 sections 5.1 and 6, OpenID Connect Core section 12.2).
	if answer.RefreshToken != "" {
		if answer.RefreshToken != next.RefreshToken {
			next.RefreshExpiry = time.Time{} // that of the old one
		}
		next.RefreshToken = answer.RefreshToken
	}
	if !answer.RefreshExpiry.IsZero() {
		next.RefreshExpiry = answer.RefreshExpiry
	}
	if _, thumbprint := answer.Proof(); thumbprint != "" {
		next.Bind(answer.Proof())
	}
	if answer.Scope != "" {
		next.Scope = answer.Scope
	}
	if answer.IDToken != "" && sameIdentity(next.IDToken, answer.IDToken) {
		next.IDToken = answer.IDToken
	}
	if answer.TokenURL != "" {
		next.TokenURL = answer.TokenURL
	}
	if len(answer.Extra) > 0 {
		if next.Extra == nil {
			next.Extra = make(map[string]tokencache.Secret)
		}
		maps.Copy(next.Extra, answer.Extra)
	}
}
