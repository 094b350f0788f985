package endpoint

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/loopback"
)

// Grant obtains tokens by a grant for which this package has no method (RFC 6749 section 4.5):
// grantType is its grant_type, and params are its parameters, which override Params. The record
// that it returns is a new login. What a token exchange brings that is no access token (RFC 8693
// section 2.2.1) has the TokenType "N_A", and is refused by Source.Login.
//
// The client authenticates as usual, and params cannot change that. The password grant is
// refused (RFC 9700 section 2.4).
func (e *Endpoint) Grant(ctx context.Context, grantType string, params url.Values) (*tokencache.Record, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	if grantType == "" || grantType == "password" {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "grant", Remedy: "use another grant: passwords are for the provider's own pages only"}
	}
	if err := e.checkParams("grant", params); err != nil {
		return nil, err
	}
	key, err := e.prover().newKey(ctx, "grant")
	if err != nil {
		return nil, err
	}
	form := e.form(grantType)
	for name, values := range params {
		form[name] = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" }) // RFC 6749 section 3.2
	}
	a, err := e.post(ctx, message{"grant", e.TokenURL, form, key})
	if err != nil {
		return nil, err
	}
	a.other = form.Get("requested_token_type") != ""
	rec, err := a.record()
	if err != nil {
		return nil, err
	}
	rec.TokenURL = e.TokenURL
	if key != nil && rec.TokenType == "DPoP" {
		rec.Bind(key.Private, key.Thumbprint)
	}
	rec.AuthorizedAt = rec.ObtainedAt
	if rec.Scope == "" {
		rec.Scope = strings.Join(e.Scopes, " ")
	}
	e.replaceRefreshToken(rec)
	return e.prolong(ctx, rec), nil
}

// Post sends params to another endpoint of the provider, where the client authenticates as it
// does at the token endpoint: the one for device authorization (RFC 8628 section 3.1), or for
// pushed authorization requests (RFC 9126 section 2). It returns the members of the answer:
// strings as they are, and anything else as JSON. Errors are *Error, with op as their Op.
func (e *Endpoint) Post(ctx context.Context, op, target string, params url.Values) (map[string]tokencache.Secret, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	if remedy := loopback.Problem(target); remedy != "" {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: op, Remedy: "the address of the endpoint: " + remedy}
	}
	if err := e.checkParams(op, params); err != nil {
		return nil, err
	}
	m := message{op: op, target: target, form: url.Values{}} // A clone of a nil map would be nil.
	maps.Copy(m.form, params)
	if params.Has("dpop_jkt") { // RFC 9449 section 10.1
		m.key = e.bound
	}
	a, err := e.post(ctx, m)
	if err != nil {
		return nil, err
	}
	if code, _ := a.oauthError(); a.status/100 == 2 && code == "" && a.members != nil && a.incomplete == nil {
		answer := make(map[string]tokencache.Secret, len(a.members))
		for name, raw := range a.members {
			if answer[name] = tokencache.Secret(a.members.text(name)); answer[name] == "" {
				answer[name] = tokencache.Secret(raw)
			}
		}
		return answer, nil
	}
	failed := a.failure()
	if failed.Field == "Endpoint.TokenURL" {
		failed.Field = "" // It is about target.
	}
	return nil, failed
}

// checkParams refuses parameters that would replace the client or authenticate it a second time
// (RFC 6749 section 2.3), and repeated ones that must not be sent twice (section 3.2).
func (e *Endpoint) checkParams(op string, params url.Values) error {
	for name, values := range params {
		remedy := ""
		switch name {
		case "client_id": // A pushed authorization request has one (RFC 9126 section 2.1).
			if len(values) != 1 || values[0] != e.ClientID {
				remedy = ownedParam(name)
			}
		case "client_secret", "client_assertion", "client_assertion_type", "grant_type":
			remedy = ownedParam(name)
		case "resource", "audience": // RFC 8693 section 2.1
		default:
			if len(values) > 1 {
				remedy = "send " + name + " once: only resource and audience may be repeated"
			}
		}
		if remedy == "" {
			remedy = checkResources(params)
		}
		if remedy != "" {
			return &transport.Error{Kind: transport.ErrMisconfigured, Op: op, Remedy: remedy}
		}
	}
	return nil
}
