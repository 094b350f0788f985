package oauthtest

import (
	"net/url"
	"time"
)

// The grants of a client that acts without a user who logs in.
const (
	jwtBearerGrant     = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	tokenExchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessTokenType    = "urn:ietf:params:oauth:token-type:access_token"
)

// clientCredentials is RFC 6749 section 4.4: no user, no refresh token.
func (s *Server) clientCredentials(scope, issuer string) (Tokens, *oauthError) {
	if s.cfg.AuthStyle == AuthNone {
		return Tokens{}, &oauthError{400, "unauthorized_client", "a public client has no credentials"}
	}
	return s.actFor(s.cfg.ClientID, scope, issuer)
}

// jwtBearer is RFC 7523 section 2.1: the client signs for whom it wants a token, and may do so
// for anybody. The audience is the token endpoint.
func (s *Server) jwtBearer(f url.Values, issuer string) (Tokens, *oauthError) {
	a, why := s.read(f.Get("assertion"), issuer+"/token")
	if why == "" && a.Subject == "" {
		why = "sub is missing"
	}
	if why != "" {
		return Tokens{}, &oauthError{400, "invalid_grant", why}
	}
	return s.actFor(a.Subject, f.Get("scope"), issuer)
}

// tokenExchange is RFC 8693: an access token of this server for another one of the same
// account.
func (s *Server) tokenExchange(f url.Values, issuer string) (Tokens, *oauthError) {
	if f.Get("subject_token_type") != accessTokenType || f.Has("actor_token") != f.Has("actor_token_type") {
		return Tokens{}, &oauthError{400, "invalid_request", "token types are missing or not supported"}
	}
	for _, name := range []string{"subject_token", "actor_token"} {
		if a := s.access[f.Get(name)]; f.Has(name) && (a == nil || !s.good(a)) {
			return Tokens{}, &oauthError{400, "invalid_request", name + " is not good"} // Section 2.2.2
		}
	}
	return s.actFor(s.access[f.Get("subject_token")].login.account, f.Get("scope"), issuer)
}

// actFor issues a token without a refresh token. s.mu is held.
func (s *Server) actFor(account, scope, issuer string) (Tokens, *oauthError) {
	if scope == "" {
		scope = s.cfg.Scope
	}
	if !covers(s.cfg.Scope, scope) {
		return Tokens{}, &oauthError{400, "invalid_scope", "more than the client may have"}
	}
	t := s.issueAccess(&login{consent: consent{account: account, scope: scope}, since: time.Now()}, scope, issuer)
	s.current[account] = t
	return t, nil
}
