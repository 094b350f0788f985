package transport

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// failure says what an answer without tokens means. The provider's error code
// decides, not the status: providers send the same code with 200, 400, 401 and
// 403. But a server that is failing (5xx) is not believed anything for good.
func (a *answer) failure() *Error {
	code, description := a.members.oauthError()
	e := &Error{Op: a.op, Status: a.status, Code: a.clean(code), Description: a.clean(description)}
	switch {
	case a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly, a.status == http.StatusTooManyRequests:
		e.Kind = ErrUnavailable // The request was not processed.
	case a.status/100 == 5:
		e.Kind = ErrAmbiguous
	case a.status/100 == 3:
		e.Kind, e.Field, e.Remedy = ErrMisconfigured, "Endpoint.TokenURL", "redirects are not followed: use the final address"
		if host := a.clean(a.redirect); host != "" {
			e.Remedy = "the endpoint redirects to host " + host + ", and redirects are not followed: use the final address"
		}
	case slices.Contains(a.members.list("error_codes"), "50196"):
		// Entra says invalid_grant to a client that asks in a loop (AADSTS50196), but the
		// refresh token is good.
		e.Kind, e.RetryAfter = ErrUnavailable, time.Minute
	case code != "":
		e.Kind, e.Field, e.Remedy = classifyCode(code)
	case a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed:
		e.Kind, e.Field, e.Remedy = ErrMisconfigured, "Endpoint.TokenURL", "there is no such endpoint at this address"
	case a.status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") != "":
		// RFC 6749 section 5.2: the client failed to authenticate, not the user.
		e.Kind, e.Field, e.Remedy = classifyCode("invalid_client")
	default:
		// A firewall, a captive portal or a load balancer may have answered.
		e.Kind = ErrAmbiguous
		e.Err = a.unusable()
	}
	if e.Kind == ErrUnavailable || e.Kind == ErrAmbiguous {
		if d := retryAfter(a.header.Get("Retry-After"), a.at); d > 0 {
			e.RetryAfter = d
		}
	}
	return e
}

// unusable says why the answer is of no use.
func (a *answer) unusable() error {
	switch {
	case a.incomplete != nil:
		return a.incomplete
	case a.members != nil:
		return errors.New("the answer has neither an access token nor an error code")
	}
	if t := a.clean(a.mediaType()); t != "" && t != jsonType {
		return errors.New("the answer is not that of a token endpoint but " + t)
	}
	return errors.New("the answer is not that of a token endpoint")
}

// classifyCode says what an OAuth error code means.
func classifyCode(code string) (kind Kind, field, remedy string) {
	switch strings.ToLower(code) {
	case "invalid_grant", "interaction_required", "login_required", "consent_required",
		"bad_refresh_token", "bad_verification_code", // GitHub; HubSpot
		"invalid_refresh_token", "token_revoked", "account_inactive", // Slack
		"oauthexception 102", "oauthexception 190": // Facebook
		return ErrLoginRequired, "", "log in again"

	case "slow_down", "temporarily_unavailable",
		"ratelimited", "rate_limited", // Slack
		"oauthexception 4", "oauthexception 17": // Facebook
		return ErrUnavailable, "", ""

	case "server_error",
		"internal_error", "fatal_error", // Slack, which says that some of it may have been done
		"oauthexception 1", "oauthexception 2": // Facebook
		return ErrAmbiguous, "", ""

	case "invalid_client", "incorrect_client_credentials":
		return ErrMisconfigured, "Endpoint.ClientSecret", "check ClientID, ClientSecret and AuthStyle: the provider does not accept them"
	case "unauthorized_client":
		return ErrMisconfigured, "Endpoint.ClientID", "allow this client to use this grant type, at the provider"
	case "unsupported_grant_type":
		return ErrMisconfigured, "Endpoint.TokenURL", "the provider does not have this grant type here"
	case "invalid_scope":
		return ErrMisconfigured, "Endpoint.Scopes", "ask only for scopes that the provider grants to this client"
	case "invalid_target":
		return ErrMisconfigured, "Endpoint.Params", "check resource and audience"
	case "use_dpop_nonce", "invalid_dpop_proof":
		return ErrMisconfigured, "", "register the client for bearer tokens: the provider asks for DPoP"
	}
	// The provider has refused, in so many words, but not the refresh token.
	return ErrMisconfigured, "", "look the error code up in the provider's documentation"
}

// oauthError returns the error code and description of an answer (RFC 6749
// section 5.2), or of what some providers send instead.
func (m members) oauthError() (code, description string) {
	code, description = m.text("error"), m.text("error_description")
	if o := m.object("error"); o != nil {
		code, description = o.text("code"), o.text("message")
		if kind := o.text("type"); kind != "" { // Facebook
			code = kind + " " + code
		} else if code != "" && code[0] <= '9' { // an HTTP status
			code = ""
		}
	}
	if code == "" && m.text("status") == "BAD_REFRESH_TOKEN" { // HubSpot
		code, description = m.text("status"), m.text("message")
	}
	for _, name := range []string{"error_subtype", "suberror"} { // Google, Entra
		if sub := m.text(name); sub != "" && !strings.Contains(description, sub) {
			description = strings.TrimSpace(description + " (" + sub + ")")
		}
	}
	if code == "false" || code == "0" {
		code = ""
	}
	return code, description
}
