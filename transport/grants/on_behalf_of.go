package grants

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"sync"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// OnBehalfOf is for a service that is called with access tokens and calls another API for whoever
// has sent them: by token exchange (RFC 8693), as Okta, Auth0 and Keycloak have it. It returns the
// configuration of a Pool:
//
//	pool, err := transport.NewPool(transport.PoolConfig{Source: grants.OnBehalfOf(endpoint)})
//
// A request whose context comes from WithCaller goes with a token that was obtained for the token
// of that caller and for no other one, even of the same user: one may stand for a stronger login.
// Such tokens are in the memory of this process only, and end with the caller's: there are no
// refresh tokens, and KeepFresh has nothing to do.
//
// If the provider wants something of the user first, the error is an ErrLoginRequired. It is for
// the caller, who has to come with another token: answer with a 401, and with the Claims of the
// error, if there are any.
func OnBehalfOf(e *endpoint.Endpoint) transport.SourceConfig {
	return onBehalf(TokenExchange(e, Exchange{Subject: caller}))
}

// MicrosoftOnBehalfOf is OnBehalfOf for Microsoft Entra, which has a grant of its own for that. See
// learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow.
func MicrosoftOnBehalfOf(e *endpoint.Endpoint) transport.SourceConfig {
	const use = "on_behalf_of"
	about := url.Values{"use": {use}}
	return onBehalf(e.GrantRefresher(jwtBearer, about, func(ctx context.Context, r endpoint.GrantRequest) (url.Values, error) {
		subject, err := caller(ctx, r.Key)
		return url.Values{"assertion": {string(subject.Token)}, "requested_token_use": {use}}, err
	}))
}

type callerKey struct{}

// WithCaller returns a context for requests on behalf of whoever has sent token, which the service
// has validated. It sets the account, as transport.WithAccount does, to a hash of the token.
func WithCaller(ctx context.Context, token tokencache.Secret) context.Context {
	return transport.WithAccount(context.WithValue(ctx, callerKey{}, token), callerAccount(token))
}

func callerAccount(token tokencache.Secret) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// caller returns the token of the caller for whom key is.
func caller(ctx context.Context, key tokencache.Key) (Subject, error) {
	token, _ := ctx.Value(callerKey{}).(tokencache.Secret)
	if token == "" || callerAccount(token) != key.Account {
		return Subject{}, statement.Misconfigured("OnBehalfOf", "use a Pool, and contexts that WithCaller returns: the token of the caller is not there", nil)
	}
	return Subject{Token: token}, nil
}

func onBehalf(r transport.Refresher) transport.SourceConfig {
	cache, err := tokencache.New(new(callers), nil)
	if err != nil {
		panic(err) // Memory is Confidential.
	}
	return transport.SourceConfig{Cache: cache, Refresher: refused{r, r.(transport.Prober), forUser}, RenewEvery: -1}
}

// forUser says that there is a user behind this grant after all.
func forUser(e *transport.Error) {
	switch e.Code {
	case "invalid_grant", "invalid_token", "interaction_required", "login_required", "consent_required":
		e.Kind, e.Field = transport.ErrLoginRequired, ""
		e.Remedy = "answer 401 to the caller, with the Claims of this error if it has any: only another token of the user helps"
	}
}

// maxCallers is how many callers' tokens are kept: as many as a Pool has room for by default.
const maxCallers = 10_000

// callers is a Store that forgets the oldest entries: each token that ever comes makes one.
type callers struct {
	tokencache.Memory

	mu    sync.Mutex
	names []string // the oldest first
}

func (c *callers) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	v, err := c.Memory.Save(ctx, name, data, old)
	if err != nil || old != "" {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names = append(c.names, name); len(c.names) > maxCallers {
		oldest := c.names[0]
		c.names = c.names[1:]
		ctx = context.WithoutCancel(ctx)
		for gone := false; !gone; { // It may change in between.
			_, v, err := c.Memory.Load(ctx, oldest)
			gone = err != nil || c.Memory.Delete(ctx, oldest, v) == nil
		}
	}
	return v, nil
}
