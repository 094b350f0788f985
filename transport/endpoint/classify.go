package endpoint

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/dpop"
)

// failure says what an answer without tokens means; the codes are in error_codes.go. What the program
// knows about its provider takes precedence. Then the provider's error code decides, not the
// status: providers send the same code with 200, 400, 401 and 403. But nothing that a failing
// server (5xx) says is taken as final.
func (a *answer) failure() *transport.Error {
	code, description := a.oauthError()
	e := &transport.Error{Op: a.op, Status: a.status, Code: code, Description: a.clean(description), URI: a.errorURI(),
		Claims: a.claims()}
	if !a.knows(code) { // A known code is no secret.
		e.Code = a.clean(code)
	}
	if kind, ok := a.codes.kind(code, description); ok {
		e.Kind, e.Remedy = kind, remedyOf(kind)
	} else {
		a.classify(e, code, description)
	}
	if code := a.interaction(); e.Kind == transport.ErrLoginRequired && code != "" {
		e.Code = code
	}
	refused := e.Field == "Endpoint.ClientSecret" // whoever the client says it is
	switch {
	case refused && a.stated && a.public:
		e.Field, e.Remedy = "", "check who the client is, and whether the provider knows the key that signs its statements: it does not accept them"
	case refused && a.proven:
		e.Field, e.Remedy = "Endpoint.ClientAuth", "check ClientID, and whether the provider knows the key, or trusts the platform whose token is sent: it does not accept the proof of who the client is"
	case refused && a.public && a.op == "client credentials": // not for public clients (RFC 6749 section 4.4)
		e.Field, e.Remedy = "Endpoint.ClientAuth", "set ClientSecret, ClientAuth or ClientCertificate: nothing has said who the client is"
	case refused && a.public:
		e.Field, e.Remedy = "Endpoint.ClientID", "check it, or set ClientSecret, ClientAuth or ClientCertificate if the client is not a public one: the provider does not accept the client"
	}
	if a.certified {
		switch {
		case e.Field == "Endpoint.ClientSecret":
			e.Field, e.Remedy = "Endpoint.Base", "check ClientID, and whether the provider knows the client's certificate or the authority of that: it does not accept it as proof of who the client is"
		case a.op == "refresh" && e.Kind == transport.ErrLoginRequired: // RFC 8705 section 4
			e.Remedy += "; a refresh token of a public client ends with the certificate that it was issued to"
		}
	}
	if a.presented && strings.Contains(strings.ToLower(description), "thumbprint") { // Keycloak
		e.Field, e.Remedy = "Endpoint.Base", "present the certificate with which the login was made, or log in again: the provider has bound it to that one"
	}
	if a.aliased && e.Field == "Endpoint.TokenURL" && code == "" {
		e.Field = "Endpoint.MTLSAliases"
	}
	if refused && a.proven || a.stated && (refused || e.Kind == transport.ErrLoginRequired) {
		a.excuse(e, description)
	}
	if e.Kind == transport.ErrUnavailable || e.Kind == transport.ErrAmbiguous {
		if d := retryAfter(a.header.Get("Retry-After"), a.at); d > 0 {
			e.RetryAfter = d
		}
	}
	if e.Kind == transport.ErrAmbiguous && a.incomplete != nil {
		e.Err = a.incomplete
	}
	return e
}

const repeatedRemedy = "see what sends requests twice between this machine and the provider, such as a proxy"

// excuse says so if the statement that was refused may have been good when it was made: the next
// attempt has another one.
func (a *answer) excuse(e *transport.Error, description string) {
	switch {
	case a.misdated:
		e.Kind, e.RetryAfter = transport.ErrUnavailable, time.Second
		e.Remedy = "set the clock of this machine: it is not that of the provider, by which the next attempt is dated"
	case a.late:
		e.Kind, e.RetryAfter = transport.ErrUnavailable, time.Second
		e.Remedy = "the provider took so long that the proof of who the client is may have expired: the next attempt has a new one"
	case saysRepeated(description):
		e.Kind, e.Remedy = transport.ErrAmbiguous, repeatedRemedy // as for a proof of possession, see classify
	default:
		return
	}
	e.Field = ""
}

// classify sets the Kind of e, and what depends on it.
func (a *answer) classify(e *transport.Error, code, description string) {
	meant, known := codeMeaning(code)
	switch {
	case a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly, a.status == http.StatusTooManyRequests:
		e.Kind = transport.ErrUnavailable // The request was not processed.
	case a.status/100 == 5:
		e.Kind = transport.ErrAmbiguous
	case a.status/100 == 3:
		e.Kind, e.Field, e.Remedy = transport.ErrMisconfigured, "Endpoint.TokenURL", "redirects are not followed: use the final address"
		if host := a.clean(a.redirect); host != "" {
			e.Remedy = "the endpoint redirects to host " + host + ", and redirects are not followed: use the final address"
		}
	case slices.Contains(a.members.list("error_codes"), "50196"):
		// Entra throttles a client that asks in a loop with invalid_grant
		// (AADSTS50196), but the refresh token is good.
		e.Kind, e.RetryAfter = transport.ErrUnavailable, time.Minute
	case a.bound && strings.EqualFold(code, "use_dpop_nonce"): // again, or without a nonce
		e.Kind, e.Remedy = transport.ErrUnavailable, "the provider asks for a nonce in proofs of possession, and does not accept the one that it has sent"
	case a.repeatsProof(code, description):
		e.Kind, e.Remedy = transport.ErrAmbiguous, repeatedRemedy // What has become of the first copy of the request, nobody knows.
	case a.aged && strings.EqualFold(code, "invalid_dpop_proof"):
		e.Kind, e.Remedy = transport.ErrUnavailable, "the proof of possession was too old when the provider read it"
	case a.bound && strings.EqualFold(code, "invalid_dpop_proof"):
		e.Kind, e.Field, e.Remedy = transport.ErrMisconfigured, "Endpoint.DPoP", "set the clock of this machine, and use a key that the provider knows how to check: it does not accept the proof of possession"
	case a.unbound && a.op == "refresh" && a.wantsProof():
		e.Kind, e.Field, e.Remedy = meant.kind, meant.field, "log in again, or let the provider accept bearer tokens of this client: this login was made without DPoP, and the provider asks for it now"
	case a.inProgress(description):
		e.Kind, e.RetryAfter = transport.ErrUnavailable, 2*time.Second
	case strings.Contains(strings.ToLower(description), "login rate exceeded"):
		e.Kind, e.RetryAfter = transport.ErrUnavailable, time.Minute // Salesforce, with invalid_grant
	case !known && a.op == "refresh" && refusesRefreshToken(code, description):
		e.Kind, e.Remedy = transport.ErrLoginRequired, remedyOf(transport.ErrLoginRequired)
	case a.status == http.StatusUnauthorized && a.refusesClient(code):
		meant, _ = codeMeaning("invalid_client")
		e.Kind, e.Field, e.Remedy = meant.kind, meant.field, meant.remedy
	case code != "":
		e.Kind, e.Field, e.Remedy = meant.kind, meant.field, meant.remedy
	case a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed:
		e.Kind, e.Field, e.Remedy = transport.ErrMisconfigured, "Endpoint.TokenURL", "there is no such endpoint at this address"
	default:
		// The answer may be that of a firewall, a captive portal or a load balancer.
		e.Kind = transport.ErrAmbiguous
		e.Err = a.unusable()
	}
}

// wantsOtherProof reports whether the provider has refused the proof of possession and nothing
// else, and news says how another one will differ (RFC 9449 section 8). Keycloak calls one that
// was made too early or too late an invalid request.
func (a *answer) wantsOtherProof(news dpop.News) bool {
	if a.status/100 == 2 || a.status/100 == 5 {
		return false
	}
	switch code, description := a.oauthError(); strings.ToLower(code) {
	case "use_dpop_nonce":
		return news.Nonce
	case "invalid_dpop_proof", "invalid_request":
		return (news.Clock || news.Late) && !a.repeatsProof(code, description)
	}
	return false
}

// wantsProof reports whether the provider insists on a proof of possession, or on a better one. No
// standard wants one for the end of a login, but some providers do; if the key cannot be had, it is
// worth a try.
func (a *answer) wantsProof() bool {
	switch code, _ := a.oauthError(); strings.ToLower(code) {
	case "invalid_dpop_proof", "use_dpop_nonce":
		return true
	}
	return false
}

// repeatsProof reports whether the proof of possession was refused because it has come before:
// something has sent the request twice, and the first copy may have spent what is in it. Keycloak
// calls that an invalid request.
func (a *answer) repeatsProof(code, description string) bool {
	if !a.bound || !saysRepeated(description) {
		return false
	}
	code = strings.ToLower(code)
	return code == "invalid_dpop_proof" || code == "invalid_request" && strings.Contains(strings.ToLower(description), "proof")
}

// refusesClient reports whether a 401 says that the client, not the user, failed to
// authenticate (RFC 6749 section 5.2). Keycloak calls a wrong secret unauthorized_client, and
// Atlassian access_denied.
func (a *answer) refusesClient(code string) bool {
	switch strings.ToLower(code) {
	case "":
		return a.header.Get("WWW-Authenticate") != ""
	case "unauthorized_client", "access_denied":
		return !a.stated // Google: nobody has allowed the client to act for this subject.
	}
	_, known := codeMeaning(code)
	return !known
}

// inProgress reports whether the provider is still working on an earlier request with the same
// token or code, which is therefore good. Salesforce calls that invalid_grant, and once spoke
// of an expired code even where there was none.
func (a *answer) inProgress(description string) bool {
	description = strings.ToLower(description)
	return strings.Contains(description, "already being processed") ||
		a.op == "refresh" && strings.Contains(description, "expired authorization code")
}

// unusable says why the answer cannot be used.
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
