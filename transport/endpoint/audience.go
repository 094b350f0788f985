package endpoint

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/renewal"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// Identity says which entries of the cache hold e's logins: their keys consist of Issuer,
// ClientID and what the tokens are for, see Params.
func (e *Endpoint) Identity() transport.Identity {
	id := transport.Identity{
		Key:      tokencache.Key{Issuer: cmp.Or(e.Issuer, e.TokenURL), ClientID: e.ClientID},
		TokenURL: e.TokenURL,
		IdleTime: e.IdleTime,
		Lifetime: e.Lifetime,
		Gate:     &e.shared().gate,
	}
	asked := targets(e.Params)
	id.NamesAudience = len(asked) > 0
	for name, values := range targets(e.AuthParams) {
		asked[name] = normal(append(asked[name], values...))
	}
	id.Key.Audience = asked.Encode()
	id.Former = id.Key.Audience != ""
	return id
}

// For returns a Refresher of another access token of e's logins, for an API that does not accept
// the one that e renews. target says which, in the parameters that the provider has for that:
// "resource" (RFC 8707 section 2.2), "audience" (Auth0), or "scope" (Microsoft Entra, where all
// scopes of a token are those of one API):
//
//	files, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: e})
//	mail, err := transport.NewSource(transport.SourceConfig{Cache: cache,
//		Refresher: e.For(url.Values{"resource": {"https://mail.example.com"}})})
//
// Both Sources have the same login: one entry of the cache, one lock, and one refresh token, which
// each refresh replaces for both. Each has a token of its own. The login is that of e, and has to
// ask for everything: by AuthParams that name all resources, those of login.Config or of e, or by
// Scopes. If the provider refuses a token for a target, the others are not affected.
//
// A resource that the login has not asked for is not asked for here either, and a login is
// required: a provider may spend the refresh token before it says no, as oidc-provider does, and
// then the next refresh ends the login. Providers that end the last access token when they issue
// the next are of no use for this.
func (e *Endpoint) For(target url.Values) transport.Refresher {
	wanted := make(url.Values)
	for name, values := range target {
		if values = normal(values); len(values) > 0 {
			wanted[name] = values
		}
	}
	if scopes := wanted["scope"]; len(scopes) > 0 {
		wanted.Set("scope", strings.Join(normal(strings.Fields(strings.Join(scopes, " "))), " "))
	}
	return targetRefresher{e, wanted}
}

// A targetRefresher is an Endpoint that renews logins for a token other than their own.
type targetRefresher struct {
	*Endpoint
	target url.Values
}

func (t targetRefresher) Identity() transport.Identity {
	id := t.Endpoint.Identity()
	id.Target = t.target.Encode()
	return id
}

func (t targetRefresher) Check(current *tokencache.Record) error {
	remedy := checkResources(t.target)
	for name := range t.target {
		if name != "resource" && name != "audience" && name != "scope" {
			remedy = "say what the token is for by resource, audience or scope; other parameters are those of Params"
		}
	}
	switch {
	case len(t.target) == 0:
		remedy = "say what the token is for, by resource, audience or scope"
	case t.ExchangeGrant != "":
		remedy = "use the Endpoint itself: without refresh tokens a login has one access token"
	}
	if remedy != "" {
		return endpointError("For", remedy)
	}
	if err := t.Endpoint.Check(current); err != nil {
		return err
	}
	if !t.askedFor(current) {
		return &transport.Error{Kind: transport.ErrLoginRequired, Op: "refresh", Remedy: "log in again, and name all resources in AuthParams: the login has not asked for " + text.Clean(strings.Join(t.target["resource"], ", "))}
	}
	return nil
}

// askedFor reports whether the login asked for what t wants, as far as the client has to ask.
func (t targetRefresher) askedFor(login *tokencache.Record) bool {
	asked := slices.Concat(t.Params["resource"], t.AuthParams["resource"])
	if login != nil {
		kept, _ := url.ParseQuery(string(login.Extra[renewal.AskedFor]))
		asked = append(asked, kept["resource"]...)
	}
	return !slices.ContainsFunc(t.target["resource"], func(r string) bool { return !slices.Contains(asked, r) })
}

func (t targetRefresher) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	if err := t.Check(current); err != nil {
		return nil, err
	}
	form := t.refreshForm(current)
	form.Del("resource") // Those of Params say what the login's own token is for.
	form.Del("audience")
	maps.Copy(form, t.target)
	if form.Has("scope") && slices.Contains(t.Scopes, "offline_access") { // or Entra need not answer with a refresh token
		form.Set("scope", form.Get("scope")+" offline_access")
	}
	rec, err := t.refresh(ctx, current, form)
	if rec != nil && rec.Scope == "" { // RFC 6749 section 5.1: as requested
		rec.Scope = t.target.Get("scope")
	}
	if e, ok := err.(*transport.Error); ok {
		switch e.Code {
		case "invalid_target", "invalid_scope", "invalid_resource":
			e.Field, e.Remedy = "Endpoint.For", "ask for this at the login too, and check whether the provider knows it and grants it to this client"
		}
	}
	return rec, err
}

// targets returns the parameters that say what a token is for: the resource of RFC 8707 section
// 2, and the audience that providers had before it, and RFC 8693 section 2.1 has too. Encode
// makes one string of them, which is different for different targets.
func targets(params url.Values) url.Values {
	found := url.Values{}
	for _, name := range []string{"audience", "resource"} {
		if values := normal(params[name]); len(values) > 0 {
			found[name] = values
		}
	}
	return found
}

// normal returns the values sorted, each once: neither order nor repetition means anything (RFC
// 6749 section 3.3, RFC 8707 section 2).
func normal(values []string) []string {
	values = slices.Compact(slices.Sorted(slices.Values(values)))
	return slices.DeleteFunc(values, func(v string) bool { return v == "" }) // not sent, see form
}
