package grants

import (
	"cmp"
	"context"
	"net/url"

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

	// Actor returns the token of who acts for the subject (section 1.1). Default: none, which
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
			token, err := ask(ctx, r.Key)
			if err != nil {
				return nil, statement.Unavailable(err, "the "+name+"'s token cannot be had")
			}
			if token.Token == "" {
				return nil, statement.Misconfigured("Exchange", "return the token to exchange: that of the "+name+" is empty", nil)
			}
			params.Set(name+"_token", string(token.Token))
			params.Set(name+"_token_type", cmp.Or(token.Type, AccessToken))
		}
		return params, nil
	})
}
