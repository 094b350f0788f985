package grants

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// tokenExchange is the grant type (RFC 8693 section 2.1).
const tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

// The types of tokens (RFC 8693 section 3).
const (
	AccessToken = "urn:ietf:params:oauth:token-type:access_token"
	IDToken     = "urn:ietf:params:oauth:token-type:id_token"
	JWTToken    = "urn:ietf:params:oauth:token-type:jwt"
	IDJAG       = "urn:ietf:params:oauth:token-type:id-jag"
)

// A Subject is a token that says for whom or what another token is wanted.
type Subject struct {
	Token tokencache.Secret
	Type  string // Default: AccessToken.
}

// An Exchange says what TokenExchange sends.
type Exchange struct {
	// Subject returns the token to exchange. It is asked for each attempt, and told whose
	// token it is about: the account names the subject, because nothing else tells the tokens
	// of two subjects apart in the cache. Required.
	Subject func(ctx context.Context, key tokencache.Key) (Subject, error)

	// Actor returns the token of whoever acts for the subject (section 1.1). Default: none, which
	// means that the client has the rights of the subject.
	Actor func(ctx context.Context, key tokencache.Key) (Subject, error)

	// Type is the type of token that is wanted. Default: the provider's choice.
	Type string
}

// TokenExchange returns a Refresher that exchanges tokens that somebody else issued (RFC 8693).
// What the token is for is said by the "audience" and "resource" of the Params of e, of which
// there may be several, and by its Scopes. An answer that is no access token is refused: it
// would be sent to an API.
func TokenExchange(e *endpoint.Endpoint, x Exchange) transport.Refresher {
	about := url.Values{"type": {x.Type}}
	if x.Actor != nil {
		about.Set("actor", "true")
	}
	return e.GrantRefresher(tokenExchange, about, func(ctx context.Context, r endpoint.GrantRequest) (url.Values, error) {
		return x.params(ctx, r.Key)
	})
}

// params returns the parameters of one request.
func (x Exchange) params(ctx context.Context, key tokencache.Key) (url.Values, error) {
	if x.Subject == nil {
		return nil, statement.Misconfigured("Exchange.Subject", "set it: it returns the token to exchange", nil)
	}
	params := url.Values{}
	if x.Type != "" {
		params.Set("requested_token_type", x.Type)
	}
	for name, ask := range map[string]func(context.Context, tokencache.Key) (Subject, error){"subject": x.Subject, "actor": x.Actor} {
		if ask == nil {
			continue
		}
		token, err := ask(ctx, key)
		if err != nil {
			return nil, notHad("Exchange", "the "+name+"'s token", err)
		}
		if token.Token == "" {
			return nil, statement.Misconfigured("Exchange", "return the token to exchange: that of the "+name+" is empty", nil)
		}
		params.Set(name+"_token", string(token.Token))
		params.Set(name+"_token_type", cmp.Or(token.Type, AccessToken))
	}
	return params, nil
}

// notHad is the error of a token that a function of the program should have returned. It is about
// one subject, and not about the provider, and may say that somebody has to log in elsewhere first:
// errors.Is finds that.
func notHad(field, what string, cause error) error {
	e, ok := errors.AsType[*transport.Error](cause)
	if ok && e.Kind == transport.ErrMisconfigured {
		return e
	}
	told := &transport.Error{Kind: transport.ErrUnavailable, Field: field, Err: cause, Remedy: what + " cannot be had, so nothing was sent"}
	if ok {
		told.Claims = e.Claims
	}
	return told
}

// Assertion returns a function for JWT.Assertion that exchanges a token at e for a statement which
// another provider accepts: an ID-JAG, with which an identity provider lets a client act for its
// user at the server of some API (draft-ietf-oauth-identity-assertion-authz-grant), say. What comes
// is of the type that x asks for, and is sent to no API.
//
//	idJAG := grants.Exchange{Subject: idToken, Type: grants.IDJAG}.Assertion(idp)
//	refresher := grants.JWTBearer(endpoint, grants.JWT{Assertion: idJAG})
func (x Exchange) Assertion(e *endpoint.Endpoint) func(ctx context.Context, key tokencache.Key) (tokencache.Secret, error) {
	return func(ctx context.Context, key tokencache.Key) (tokencache.Secret, error) {
		if x.Type == "" {
			return "", statement.Misconfigured("Exchange.Type", "set it: a statement is not what a provider issues unasked", nil)
		}
		params, err := x.params(ctx, key)
		if err != nil {
			return "", err
		}
		params.Set("scope", strings.Join(e.Scopes, " "))
		rec, err := e.Grant(ctx, tokenExchange, params)
		if err != nil {
			return "", err
		}
		if issued := string(rec.Extra["issued_token_type"]); issued != x.Type {
			return "", statement.Misconfigured("Exchange.Type", "ask for what the provider issues: it has issued something else", nil)
		}
		return rec.AccessToken, nil
	}
}
