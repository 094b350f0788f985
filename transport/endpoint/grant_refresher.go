package endpoint

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/dpop"
)

// ClientCredentials returns a Refresher that obtains tokens for the program itself, not for a
// user (RFC 6749 section 4.4). It needs no login. In the cache it has an entry of its own,
// apart from those of the client's users, for each resource, audience and set of scopes. It
// does not request the scope offline_access, which asks for a refresh token, and for a user who
// consents. Some providers want a scope of another form here than in a login: Microsoft Entra
// wants the resource with "/.default" at its end.
func (e *Endpoint) ClientCredentials() transport.Refresher {
	return grantRefresher{e, "client_credentials", nil, nil}
}

// GrantRefresher is like ClientCredentials, but obtains each token by another grant that needs
// no user: the JWT bearer grant (RFC 7523 section 2.1), token exchange (RFC 8693), or one of the
// provider's own. Package grants has those that are in use. params returns the parameters of one
// request, beside those of Params and the scope, which it may replace. It is called for every
// attempt, because assertions are good for one. While it fails, nothing is sent; ctx ends after
// 10 seconds.
//
// about says what else than the account, Params and Scopes decides for whom or what the tokens
// are: two grants that differ in it share no entry of the cache.
func (e *Endpoint) GrantRefresher(grantType string, about url.Values, params func(ctx context.Context, r GrantRequest) (url.Values, error)) transport.Refresher {
	return grantRefresher{e, grantType, about, params}
}

// A GrantRequest is one that GrantRefresher is about to make.
type GrantRequest struct {
	Key tokencache.Key // whose token it is: in a Pool, its Account is the account
	Now time.Time      // the time by the provider's clock, as far as its last answer told it
}

// A grantRefresher is an Endpoint that renews by a grant instead of a refresh token.
type grantRefresher struct {
	*Endpoint
	grantType string
	about     url.Values
	params    func(ctx context.Context, r GrantRequest) (url.Values, error)
}

// Identity differs from that of the Endpoint, so that such a token never replaces a user's
// login. No issuer has a fragment (RFC 8414 section 2). There is no login that decides the
// scopes or anything else, so all that is asked for is part of what such a token is for.
func (g grantRefresher) Identity() transport.Identity {
	id := g.Endpoint.Identity()
	id.Key.Issuer += "#" + g.grantType
	asked := url.Values{"scope": strings.Fields(g.scope())}
	for name, values := range g.Params {
		asked[name] = append(asked[name], values...)
	}
	for name, values := range g.about {
		asked["about "+name] = values
	}
	for name, values := range asked {
		asked[name] = normal(values)
	}
	id.Key.Audience = asked.Encode()
	id.Former = false // What is stored there may be for anything, and a new token costs no login.
	return id
}

func (g grantRefresher) Check(current *tokencache.Record) error {
	if err := g.check(); err != nil {
		return err
	}
	if err := checkClaims(g.Params, current); err != nil || current == nil {
		return err
	}
	if p := g.prover(); p.DPoP == nil {
		return p.check(current)
	}
	return nil
}

// key returns the key that the tokens are bound to, for the first ones a new one, or nil. If that
// of the last ones is gone, it is a new one as well: nothing is spent that was bound to it.
func (g grantRefresher) key(ctx context.Context, current *tokencache.Record) (*dpop.Key, error) {
	if current != nil {
		if key, err := g.prover().keyOf(ctx, g.op(), current); key != nil || err != nil && !errors.Is(err, transport.ErrMisconfigured) {
			return key, err
		}
	}
	return g.prover().newKey(ctx, g.op())
}

func (g grantRefresher) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	if err := g.Check(current); err != nil {
		return nil, err
	}
	form, err := g.grant(ctx, current)
	if err != nil {
		return nil, err
	}
	key, err := g.key(ctx, current)
	if err != nil {
		return nil, err
	}
	rec, err := g.obtain(ctx, g.op(), form, key)
	if err, ok := err.(*transport.Error); ok && err.Kind == transport.ErrLoginRequired {
		// There is no user who could log in: it is the client that the provider
		// refuses.
		err.Kind, err.Remedy = transport.ErrMisconfigured, "check what the provider grants to this client"
	}
	if err != nil {
		return nil, err
	}
	if err := g.checkIssued(form, rec); err != nil {
		return nil, err
	}
	rec.RefreshToken = "" // RFC 6749 section 4.4.3: There should be none, and none is needed.
	if rec.Scope == "" {
		rec.Scope = g.scope()
	}
	return rec, nil
}

// checkIssued refuses an answer to a token exchange that is not said to be what was asked for, or
// an access token: it would be sent to an API (RFC 8693 section 2.2.1).
func (g grantRefresher) checkIssued(form url.Values, rec *tokencache.Record) error {
	const types = "urn:ietf:params:oauth:token-type:"
	if g.op() != "token-exchange" {
		return nil
	}
	remedy := "ask for an access token: the provider has issued something else"
	switch issued := string(rec.Extra["issued_token_type"]); issued {
	case types + "access_token", types + "jwt":
		return nil
	case "":
		remedy = "see whether this is a token exchange (RFC 8693): the provider does not say what it has issued (issued_token_type)"
	case form.Get("requested_token_type"):
		return nil
	}
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: g.op(), Remedy: remedy}
}

// op is what is being done, in errors: "client credentials", "jwt-bearer".
func (g grantRefresher) op() string {
	return strings.ReplaceAll(g.grantType[strings.LastIndex(g.grantType, ":")+1:], "_", " ")
}

// grant returns the parameters of one request.
func (g grantRefresher) grant(ctx context.Context, current *tokencache.Record) (url.Values, error) {
	form := g.form(g.grantType)
	demand(form, current)
	set(form, "scope", g.scope())
	if g.params == nil {
		return form, nil
	}
	r := GrantRequest{Now: g.shared().clock.now()}
	if current != nil {
		r.Key = current.Key
	}
	var params url.Values
	err := g.shared().helper.Do(ctx, func(ctx context.Context) (err error) {
		params, err = g.params(ctx, r)
		return err
	})
	if err != nil {
		return nil, notSent(g.op(), "GrantRefresher", err)
	}
	if err := g.checkParams(g.op(), params); err != nil {
		return nil, err
	}
	for name, values := range params {
		form[name] = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
	}
	return form, nil
}

// scope returns the scopes to request. If a client without a user asks for offline_access, the
// provider refuses the whole request, or ignores that scope.
func (g grantRefresher) scope() string {
	return strings.Join(slices.DeleteFunc(slices.Clone(g.Scopes), func(s string) bool { return s == "offline_access" }), " ")
}
