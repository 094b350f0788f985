// Package grants has the grants that renew without a user: a service that acts on behalf of its
// users, subjects or tenants holds one token for each in a transport.Pool, by the account.
//
// [JWTBearer] signs a statement about whom the token is for (RFC 7523 section 2.1): a Google
// service account with domain-wide delegation, Salesforce, Box, DocuSign.
//
//	refresher := grants.JWTBearer(endpoint, grants.JWT{Key: clientauth.KeyFile("key.pem", "")})
//	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: refresher}})
//
// [TokenExchange] exchanges a token that somebody else issued (RFC 8693): Google's security
// token service, Okta, Keycloak. What comes may also be the statement for a JWTBearer at another
// provider, see [Exchange.Assertion].
//
// A [GitHubApp] obtains tokens for the installations of an app, and a [GoogleServiceAccount] for
// the users of a domain or itself, by its key file.
//
// [OnBehalfOf] and [MicrosoftOnBehalfOf] are for a service that is called with a user's token and
// calls another API for that user.
//
// In the cache a token is known by the client, the grant, the account, and everything that the
// grant asks for: the scopes, the Params, the claims. A grant cannot know for whom a function
// of the program speaks: if that is not always the same subject, the account has to name it.
//
// None of them has a refresh token. A token is obtained anew whenever it is about to expire, by one
// process of those that share the cache; what the provider refuses is the configuration's
// fault, and no reason to ask a user to log in. Where a grant begins with a user's token, that
// user's login may have ended: then errors.Is finds transport.ErrLoginRequired.
package grants
