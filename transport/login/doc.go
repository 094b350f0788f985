// Package login logs a user in: it obtains the first tokens of a login, which a
// transport.Source then keeps alive.
//
//	p, err := provider.Discover(ctx, "https://login.example.com")
//	endpoint := p.Endpoint("my-app", "", "read", "write")
//	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
//
//	tokens, err := login.Auto(ctx, login.Config{Provider: p, Endpoint: endpoint, Cache: cache})
//	err = source.Login(ctx, tokens)
//
// # Which way
//
//   - [Loopback] is for programs on the user's own machine: the browser opens, the user
//     consents, and the program goes on.
//   - [Device] is for machines without a browser: the user enters a short code on another
//     device. Not every provider supports it, and it is the one way that can be abused for
//     phishing: somebody starts a login and sends the code to a victim.
//   - [Paste] is for machines without a browser too, and works with any provider: the user
//     opens a page elsewhere, and pastes the address at which the browser ends.
//   - [Auto] chooses by where the program runs, and says what it has chosen.
//   - Package transport/cliauth does all of this for a command-line program, by one call.
//   - A [Web] is for a web application whose users connect their accounts: three handlers, and
//     a transport.Pool for the logins.
//
// In all of them the user logs in at the provider, in a browser that is not part of the
// program, which therefore never sees a password (RFC 8252 section 8.12). There is no password
// grant and no implicit grant here (RFC 9700 sections 2.1.2 and 2.4).
//
// # When an API wants more
//
// More scopes, another way to authenticate, claims: what an API demands of the next login is its
// Cause. A [Config] has one, and so has the [Start] of a Web. The scopes of the present login,
// which is Former in a Config and known to a Web, are requested again, and the same demand right
// after the login that was made for it is an error.
//
// # What protects a login
//
// An authorization code is useless to anybody who sees it, because only this attempt has the
// verifier that belongs to it (PKCE with S256, RFC 7636). An answer is accepted only if it has the
// state of this attempt and, if the provider names itself in its answers, comes from the issuer
// that was asked (RFC 9207). If a provider that does not name itself was found by
// provider.Discover, and the Cache has logins of other issuers too, or if there is a
// Provider.Resource, which may have named it, its answer must arrive at a path of its own:
// /callback/ and a part of the issuer's hash, which must be registered with the provider, and is
// shown (RFC 9700 section 4.4.2.2). A program that lets its users choose issuers, and has no Cache
// that can list its entries, must give each a RedirectURL with a path of its own. The listener of
// Loopback is bound to a loopback address, accepts one answer, and closes. The page that the
// browser ends on has no token and no code in it, in its address, or in the history.
//
// A Web sends each user's browser away, and anybody may send answers to it. So what it must
// know about an attempt is in a sealed cookie of the browser that began it, bound to the
// application's user, the provider, the client and the redirect URI: an answer in another
// browser, for another user, or at the address of another provider has no effect. Each provider
// needs a WebConfig.RedirectURL of its own (RFC 9700 section 4.4.2.2). A login begins only with
// a request of this site that the user has made, as the browser's Sec-Fetch-Site and Origin
// headers show. An answer that has arrived once is not used again.
//
// If an ID token is requested, and this machine's clock differs from the provider's by more than
// 4 minutes, that is an error before the user has anything to do: the token would not be used.
//
// The address that is opened is not a secret, but other users of the machine may see it, and
// with it the state, in the list of processes. Config.PAR keeps the state from them.
package login
