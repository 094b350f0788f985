package transport

import (
	"context"
	"maps"
	"net/url"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
)

// Grant obtains tokens by a grant that this package does not know by name (RFC 6749
// section 4.5): grantType is its grant_type, and params are its parameters. The
// record that it returns is a new login.
func (e *Endpoint) Grant(ctx context.Context, grantType string, params url.Values) (*tokencache.Record, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	form := e.form(grantType)
	for name := range params {
		set(form, name, params.Get(name))
	}
	rec, err := e.obtain(ctx, "grant", form)
	if err != nil {
		return nil, withoutValues(err, params)
	}
	rec.AuthorizedAt = rec.ObtainedAt
	if rec.Scope == "" {
		rec.Scope = strings.Join(e.Scopes, " ")
	}
	e.replaceRefreshToken(rec)
	return e.prolong(ctx, rec), nil
}

// Post sends params to another endpoint of the provider, where the client
// authenticates as it does at the token endpoint: that for device authorizations
// (RFC 8628 section 3.1), or for pushed authorization requests (RFC 9126 section 2).
// It returns the members of the answer: strings as they are, anything else as JSON.
// Errors are *Error; op names in them what was being done.
func (e *Endpoint) Post(ctx context.Context, op, target string, params url.Values) (map[string]tokencache.Secret, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	if remedy := checkURL(target); remedy != "" {
		return nil, &Error{Kind: ErrMisconfigured, Op: op, Remedy: "the address of the endpoint: " + remedy}
	}
	a, err := e.post(ctx, op, target, maps.Clone(params))
	if err != nil {
		return nil, err
	}
	if code, _ := a.members.oauthError(); a.status/100 == 2 && code == "" && a.members != nil && a.incomplete == nil {
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
	return nil, withoutValues(failed, params)
}

// withoutValues removes the description from an error that repeats what was sent.
func withoutValues(err error, params url.Values) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	for _, values := range params {
		for _, v := range values {
			if len(v) >= minSecret && strings.Contains(e.Description, v) {
				e.Description = ""
			}
		}
	}
	return e
}

// minSecret is the length in bytes of the shortest value that can be a secret. A
// description may well repeat a shorter one, such as a scope.
const minSecret = 16
