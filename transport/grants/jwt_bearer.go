package grants

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// jwtBearer is the grant type (RFC 7523 section 2.1).
const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// A JWT says what JWTBearer signs.
type JWT struct {
	// Key returns the key to sign with, as that of clientauth.PrivateKey does. Required,
	// without Assertion.
	Key func(ctx context.Context) (*clientauth.Key, error)

	// Issuer is who signs ("iss"). Default: the ClientID of the Endpoint.
	Issuer string

	// Subject returns whom the token is for ("sub"): a user, for whom the client may act. It
	// is also called once with a key that holds nothing: what it returns for that tells the
	// tokens of two such functions apart in the cache. Default: the account of the login, or
	// Issuer if it has none.
	Subject func(key tokencache.Key) string

	// Audience is who the statement is for ("aud"). Default: the token endpoint, as most
	// providers of this grant want.
	Audience string

	// Lifetime is how long a statement is good. Box accepts one minute, and no provider more
	// than an hour. Default: one minute.
	Lifetime time.Duration

	// Claims are further claims, such as Box's "box_sub_type". Default: none.
	Claims map[string]any

	// Assertion returns a statement that somebody else has signed, for each attempt, and is told
	// for whom. Then nothing is signed, and the other fields mean nothing. Default: none.
	Assertion func(ctx context.Context, key tokencache.Key) (tokencache.Secret, error)

	// ScopeClaim puts the Scopes of the Endpoint into the statement ("scope"), where Google
	// wants them, and not beside it.
	ScopeClaim bool
}

// about returns what of j decides for whom the tokens are, beside the account.
func (j JWT) about() url.Values {
	about := url.Values{"iss": {j.Issuer}}
	if j.Subject != nil {
		about.Set("sub", j.Subject(tokencache.Key{}))
	}
	if claims, err := json.Marshal(j.Claims); err == nil && len(j.Claims) > 0 { // otherwise a request will say so
		about.Set("claims", string(claims))
	}
	return about
}

// maxLifetime is the longest that any provider accepts.
const maxLifetime = time.Hour

// JWTBearer returns a Refresher that obtains each token by a new statement that jwt describes
// (RFC 7523 section 2.1). The client authenticates as the fields of e say, if at all.
func JWTBearer(e *endpoint.Endpoint, jwt JWT) transport.Refresher {
	turns := new(statement.Turns)
	return e.GrantRefresher(jwtBearer, jwt.about(), func(ctx context.Context, r endpoint.GrantRequest) (url.Values, error) {
		if jwt.Assertion != nil {
			return jwt.asserted(ctx, r.Key)
		}
		lifetime := cmp.Or(jwt.Lifetime, time.Minute)
		switch {
		case jwt.Key == nil:
			return nil, statement.Misconfigured("JWT.Key", "set it: clientauth.KeyFile returns such a function", nil)
		case lifetime < 0 || lifetime > maxLifetime:
			return nil, statement.Misconfigured("JWT.Lifetime", "use one hour at most, or 0 for one minute", nil)
		}
		s := statement.Statement{Issuer: cmp.Or(jwt.Issuer, e.ClientID), Audience: cmp.Or(jwt.Audience, e.TokenURL),
			Now: r.Now, Lifetime: lifetime, Claims: jwt.Claims}
		if s.Subject = cmp.Or(r.Key.Account, s.Issuer); jwt.Subject != nil {
			s.Subject = jwt.Subject(r.Key)
		}
		params := url.Values{}
		if scopes := withoutUser(e.Scopes); jwt.ScopeClaim && scopes != "" {
			s.Claims = with(s.Claims, "scope", scopes)
			params.Set("scope", "") // not twice
		}
		key := func() (*statement.Key, error) { k, err := jwt.Key(ctx); return (*statement.Key)(k), err }
		signed, err := turns.Make(ctx, "JWT.Key", key, s)
		if err != nil {
			return nil, err
		}
		params.Set("assertion", signed)
		return params, nil
	})
}

// asserted returns the parameters of a request with somebody else's statement.
func (j JWT) asserted(ctx context.Context, key tokencache.Key) (url.Values, error) {
	signed, err := j.Assertion(ctx, key)
	switch {
	case err != nil:
		return nil, notHad("JWT.Assertion", "the statement", err)
	case j.Key != nil:
		return nil, statement.Misconfigured("JWT.Key", "remove it, or Assertion: one of them signs", nil)
	case signed == "":
		return nil, statement.Misconfigured("JWT.Assertion", "return the statement: it is empty", nil)
	}
	return url.Values{"assertion": {string(signed)}}, nil
}

// withoutUser returns the scopes to ask for where there is no login, as Endpoint.ClientCredentials does.
func withoutUser(scopes []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == "offline_access" }), " ")
}

// with returns claims with one more.
func with(claims map[string]any, name string, value any) map[string]any {
	more := map[string]any{name: value}
	for n, v := range claims {
		more[n] = v
	}
	return more
}
