package endpoint

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/stayauth/stayauth/transport"
)

// A codeTable is what a program knows about its provider's errors, see Endpoint.Codes.
type codeTable map[string]transport.Kind

// kind looks an error up: by its code, or else by the longest phrase that its description
// contains.
func (t codeTable) kind(code, description string) (kind transport.Kind, ok bool) {
	longest := ""
	description = strings.ToLower(description)
	for key, k := range t {
		if strings.EqualFold(key, code) {
			return k, true
		}
		if !strings.Contains(description, strings.ToLower(key)) {
			continue
		}
		if cmp.Or(cmp.Compare(len(key), len(longest)), cmp.Compare(key, longest)) > 0 {
			longest, kind, ok = key, k, true
		}
	}
	return kind, ok
}

// remedyOf says what to do about an error of which only the kind is known.
func remedyOf(kind transport.Kind) string {
	switch kind {
	case transport.ErrLoginRequired:
		return "log in again"
	case transport.ErrMisconfigured:
		return "look the error code up in the provider's documentation"
	}
	return ""
}

// A verdict is what an error code means to the program.
type verdict struct {
	kind          transport.Kind
	field, remedy string
}

// codeMeaning returns the meaning of an OAuth error code. An unknown code says that the
// provider has refused something, but not the refresh token.
func codeMeaning(code string) (v verdict, known bool) {
	switch strings.ToLower(code) {
	case "invalid_grant", "interaction_required", "login_required", "consent_required",
		"account_selection_required",                 // OpenID Connect Core section 3.1.2.6
		"unmet_authentication_requirements",          // OpenID Connect Unmet Authentication Requirements
		"bad_refresh_token", "bad_verification_code", // GitHub; HubSpot
		"invalid_refresh_token", "token_revoked", "account_inactive", // Slack
		"token_inactive",                                                                              // Ory Hydra, of a login that ended by a reuse
		"token_expired", "refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", // OpenAI
		"refresh_token_not_found", "refresh_token_already_used", // Supabase
		"oauthexception 102", "oauthexception 190": // Facebook
		return verdict{kind: transport.ErrLoginRequired, remedy: remedyOf(transport.ErrLoginRequired)}, true

	case "slow_down", "temporarily_unavailable",
		"ratelimited", "rate_limited", // Slack
		"oauthexception 4", "oauthexception 17": // Facebook
		return verdict{kind: transport.ErrUnavailable}, true

	case "server_error",
		"unknown_error",                 // Salesforce, which adds: retry your request
		"internal_error", "fatal_error", // Slack; part of the request may have been carried out
		"oauthexception 1", "oauthexception 2": // Facebook
		return verdict{kind: transport.ErrAmbiguous}, true

	case "invalid_client", "incorrect_client_credentials":
		return verdict{transport.ErrMisconfigured, "Endpoint.ClientSecret", "check ClientID, ClientSecret and AuthStyle: the provider does not accept them"}, true
	case "unauthorized_client":
		return verdict{transport.ErrMisconfigured, "Endpoint.ClientID", "allow this client to use this grant type, at the provider"}, true
	case "access_denied": // Keycloak, with a 403: the realm is disabled
		return verdict{transport.ErrMisconfigured, "", "see at the provider whether the client, its realm or tenant, or the account is disabled there"}, true
	case "unsupported_grant_type":
		return verdict{transport.ErrMisconfigured, "Endpoint.TokenURL", "the provider does not have this grant type here"}, true
	case "invalid_scope":
		return verdict{transport.ErrMisconfigured, "Endpoint.Scopes", "ask only for scopes that the provider grants to this client"}, true
	case "invalid_target", "invalid_resource": // The latter is Entra's.
		return verdict{transport.ErrMisconfigured, "Endpoint.Params", "check resource and audience"}, true
	case "use_dpop_nonce", "invalid_dpop_proof":
		return verdict{transport.ErrMisconfigured, "Endpoint.DPoP", "set it, or register the client for bearer tokens: the provider asks for DPoP"}, true
	}
	return verdict{kind: transport.ErrMisconfigured, remedy: remedyOf(transport.ErrMisconfigured)}, false
}

// refusesRefreshToken reports whether an error says in words what invalid_grant means in reply
// to a refresh, as dex does with the code invalid_request, and Twitch with no code.
func refusesRefreshToken(code, description string) bool {
	text := strings.ToLower(strings.ReplaceAll(code, "_", " ") + ". " + description)
	if strings.Contains(text, "missing") {
		return false // Perhaps the request was not understood.
	}
	// "Invalid refresh token request" is something else.
	refused := regexp.MustCompile(`\b(invalid|expired|revoked) refresh token($| ?[^a-z ])|` +
		`\brefresh token (is |was |has |been )*(already used|invalid|expired|revoked|inactive|reused)\b`)
	return refused.MatchString(text)
}

// saysRepeated reports whether an error says that a statement, which is good for one request, has
// come before. Keycloak calls that "Token reuse detected"; others do not say so.
func saysRepeated(description string) bool {
	return regexp.MustCompile(`(?i)\b(reuse|replay(ed)?|(already|previously) (been )?used|used before)\b`).MatchString(description)
}
