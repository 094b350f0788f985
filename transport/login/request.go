package login

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/loopback"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// protocolParams are the parameters of an authorization request that belong to the
// flow: changing one would break it, or make it unsafe.
var protocolParams = [...]string{
	"response_type", "response_mode", "client_id", "client_secret", "redirect_uri", "scope", "state", "nonce",
	"code_challenge", "code_challenge_method", "request", "request_uri", "dpop_jkt",
}

// A request is an authorization request (RFC 6749 section 4.1.1) that waits for its answer.
// Everything that ties the answer to it is new for each request.
type request struct {
	*flow
	redirectURI string
	state       string
	verifier    string // RFC 7636
	url         string // for the browser
	expiry      time.Time
}

// checkAuthURL returns an error if the provider has no address that a browser could be sent to.
func (cfg *Config) checkAuthURL() error {
	if cfg.Provider.AuthURL == "" {
		return misconfigured("Provider", "set AuthURL, or use a flow that does not need it", nil)
	}
	if problem := loopback.Problem(cfg.Provider.AuthURL); problem != "" {
		return misconfigured("Provider", "AuthURL: "+problem, nil)
	}
	if cfg.Provider.NoPKCE { // RFC 9700 section 2.1.1
		return misconfigured("Provider", "ask the provider for PKCE with S256: without it, a code is good for whoever sees it; if it has that, clear Provider.NoPKCE", nil)
	}
	return nil
}

// newRequest returns a request whose answer arrives at redirectURI.
func (f *flow) newRequest(ctx context.Context, redirectURI string) (*request, error) {
	r := f.draw(redirectURI)
	return r, r.address(ctx)
}

// draw returns a request that has no url yet.
func (f *flow) draw(redirectURI string) *request {
	return &request{flow: f, redirectURI: redirectURI, state: rand.Text(), verifier: oauth2.GenerateVerifier()}
}

// address finds out the url of the request, which may have to be pushed.
func (r *request) address(ctx context.Context) error {
	if err := r.checkAuthURL(); err != nil {
		return err
	}
	u, err := url.Parse(r.Provider.AuthURL)
	if err != nil {
		return misconfigured("Provider", "set AuthURL, or use a flow that does not need it", nil)
	}
	params := r.params()
	if r.PAR || r.Provider.RequirePAR {
		if params, err = r.push(ctx, params); err != nil {
			return err
		}
	}
	query := u.Query() // RFC 6749 section 3.1: what it has is retained.
	for name, values := range params {
		query[name] = values
	}
	u.RawQuery = query.Encode()
	r.url = u.String()
	return nil
}

// requested returns the parameters that say what is requested of the user.
func (f *flow) requested() url.Values {
	params := url.Values{}
	for _, name := range []string{"resource", "audience"} {
		if values := f.Endpoint.Params[name]; len(values) > 0 {
			params[name] = slices.Clone(values)
		}
	}
	for _, more := range []url.Values{f.Provider.AuthParams, f.AuthParams} {
		for name, values := range more {
			params[name] = slices.Clone(values)
		}
	}
	if len(f.Endpoint.Scopes) > 0 {
		params.Set("scope", strings.Join(f.Endpoint.Scopes, " "))
	}
	return params
}

// params returns the parameters of the request.
func (r *request) params() url.Values {
	params := r.requested()
	params.Set("response_type", "code")
	params.Set("client_id", r.Endpoint.ClientID)
	params.Set("redirect_uri", r.redirectURI)
	params.Set("state", r.state)
	params.Set("code_challenge", oauth2.S256ChallengeFromVerifier(r.verifier))
	params.Set("code_challenge_method", "S256")
	if r.openID() {
		params.Set("nonce", r.nonce())
	}
	if _, thumbprint := r.Endpoint.Proof(); thumbprint != "" {
		params.Set("dpop_jkt", thumbprint) // RFC 9449 section 10
	}
	return params
}

// errForeign says that an answer does not belong to the request: it was forged, or belongs to
// another attempt. It says nothing about this one.
var errForeign = errors.New("the answer does not belong to this login")

// code returns the code in an answer (RFC 6749 section 4.1.2). If the answer does not have the
// right state, the error is errForeign. Any other error ends the attempt.
func (r *request) code(answer url.Values) (string, error) {
	if subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(r.state)) != 1 {
		return "", errForeign
	}
	for _, name := range []string{"state", "code", "iss", "error"} {
		if len(answer[name]) > 1 { // RFC 6749 section 3.1
			return "", r.failure("", "", errors.New("the answer has the parameter "+name+" twice"))
		}
	}
	// RFC 9207 section 2.4: before anything in the answer is believed, an error included.
	switch iss, sent := answer.Get("iss"), answer.Has("iss"); {
	case sent && iss != r.Provider.Issuer:
		return "", r.failure("", "", errors.New("the answer came from another issuer than the one that was asked"))
	case !sent && r.Provider.SendsIss:
		e := r.failure("", "", errors.New("the answer does not say which issuer it came from, as this provider's always do"))
		e.Remedy = "log in again; if this server does not send iss, or not to this client, clear Provider.SendsIss"
		return "", e
	}
	if code := answer.Get("error"); code != "" {
		return "", r.failure(code, answer.Get("error_description"), nil)
	}
	code := answer.Get("code")
	if code == "" {
		return "", r.failure("", "", errors.New("the answer has neither a code nor an error"))
	}
	return code, nil
}

// failure returns the error of an answer that ends the attempt.
func (r *request) failure(code, description string, cause error) *transport.Error {
	e := &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Code: text.Clean(code), Description: text.Clean(description), Err: cause}
	switch code { // RFC 6749 section 4.1.2.1, OpenID Connect Core section 3.1.2.6
	case "access_denied", "interaction_required", "login_required", "account_selection_required", "consent_required":
		e.Kind, e.Remedy = transport.ErrLoginRequired, "log in again, and allow what is asked for"
	case "unmet_authentication_requirements": // OpenID Connect Unmet Authentication Requirements
		e.Kind, e.Remedy = transport.ErrLoginRequired, "log in again, in the way that is asked for"
	case "server_error", "temporarily_unavailable":
		e.Kind, e.Remedy = transport.ErrUnavailable, "log in again later"
	case "invalid_scope":
		e.Field, e.Remedy = "Endpoint.Scopes", "ask only for scopes that the provider grants to this client"
	case "invalid_target":
		e.Field, e.Remedy = "Endpoint.Params", "check resource and audience"
	case "unauthorized_client", "unsupported_response_type":
		e.Field, e.Remedy = "Endpoint.ClientID", "allow this client to use authorization codes, at the provider"
	case "":
		e.Field, e.Remedy = "Config.Provider", "make sure that Issuer and AuthURL are those of one provider, and log in again"
	default:
		e.Remedy = "look the error code up in the provider's documentation"
	}
	return e
}

// exchange turns the code into a login. If that is not the login that was requested, it revokes
// the tokens, as far as the provider supports that.
func (r *request) exchange(ctx context.Context, code string) (*tokencache.Record, error) {
	rec, err := r.Endpoint.Exchange(ctx, code, r.verifier, r.redirectURI)
	if err != nil {
		return nil, err
	}
	err = r.checkIDToken(rec.IDToken)
	if err == nil {
		err = r.settle(rec)
	}
	if err != nil {
		r.discard(ctx, rec)
		return nil, err
	}
	return rec, nil
}

// discardTime bounds the attempt to revoke tokens that nobody will use.
const discardTime = 15 * time.Second

// discard revokes tokens that must not be used, or cannot be stored. It returns no error,
// because the user needs the error for which they are discarded.
func (f *flow) discard(ctx context.Context, rec *tokencache.Record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	f.Endpoint.Revoke(ctx, rec)
}
