package endpoint

import (
	"cmp"
	"context"
	"net/url"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/renewal"
)

// loginRedirectURI is the member of Record.Extra that holds the redirect_uri of the
// login, for RepeatRedirectURI.
const loginRedirectURI = "redirect_uri"

// refreshForm returns the parameters of the request that renews current.
func (e *Endpoint) refreshForm(current *tokencache.Record) url.Values {
	grant := cmp.Or(e.ExchangeGrant, "refresh_token")
	form := e.form(grant)
	form.Set(grant, string(e.spends(current))) // The parameter has the name of its grant.
	demand(form, current)
	if e.RepeatRedirectURI {
		set(form, "redirect_uri", string(current.Extra[loginRedirectURI]))
	}
	return form
}

// spends returns the token that renews rec. With ExchangeGrant, a record that was not made here
// may lack the copy of its access token.
func (e *Endpoint) spends(rec *tokencache.Record) tokencache.Secret {
	if e.ExchangeGrant != "" {
		return cmp.Or(rec.RefreshToken, rec.AccessToken)
	}
	return rec.RefreshToken
}

// replaceRefreshToken copies the access token of a provider without refresh tokens into
// RefreshToken, so that a Source guards and journals it like any refresh token.
func (e *Endpoint) replaceRefreshToken(rec *tokencache.Record) {
	if e.ExchangeGrant != "" && rec != nil && rec.RefreshToken == "" {
		rec.RefreshToken, rec.RefreshExpiry = rec.AccessToken, rec.Expiry
	}
}

// keepRedirectURI stores what refreshForm will need.
func (e *Endpoint) keepRedirectURI(rec *tokencache.Record, uri string) {
	if !e.RepeatRedirectURI || uri == "" {
		return
	}
	if rec.Extra == nil {
		rec.Extra = make(map[string]tokencache.Secret)
	}
	rec.Extra[loginRedirectURI] = tokencache.Secret(uri)
}

// prolong exchanges the token of a new login for a longer-lived one, if that is how the
// provider renews. If that fails, a Source will try again as soon as the token is used.
func (e *Endpoint) prolong(ctx context.Context, rec *tokencache.Record) *tokencache.Record {
	if e.ExchangeGrant == "" {
		return rec
	}
	rec.RefreshAt = rec.ObtainedAt
	answer, err := e.Refresh(ctx, rec)
	if err != nil {
		return rec
	}
	next := rec.Clone()
	renewal.Merge(next, answer)
	return next
}
