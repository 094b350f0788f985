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
//   - [Loopback] is for programs on the user's own machine: the browser opens, the
//     user agrees, and the program goes on.
//   - [Device] is for machines without a browser: the user enters a short code on
//     another device. Not every provider has it, and it is the one way that can be
//     abused for phishing: somebody starts a login and sends the code to a victim.
//   - [Paste] is for machines without a browser too, with any provider: the user opens
//     a page elsewhere, and copies the address that it ends at.
//   - [Auto] looks at where the program runs, chooses, and says what it chose.
//   - A [Web] is for a web application, whose users connect their accounts: three
//     handlers, and a transport.Pool that the logins go to.
//
// In all of them the user logs in at the provider, in a browser that the program has
// no part in: it never sees a password (RFC 8252 section 8.12). There is no password
// grant and no implicit grant here (RFC 9700 sections 2.1.2 and 2.4).
//
// # What protects a login
//
// An authorization code is useless to anybody who sees it, because only this attempt has
// the verifier that belongs to it (PKCE with S256, RFC 7636). An answer is believed
// only if it has the state of this attempt, and, from a provider that says so in its
// answers, if it comes from the issuer that was asked (RFC 9207). Of a provider that does
// not, that cannot be seen. So if it was found by provider.Discover, and the Cache has
// logins of other issuers too, its answer must come to a path that it has for itself:
// /callback/ and a part of the issuer's hash, which the provider must know, and which is
// shown (RFC 9700 section 4.4.2.2). A program that lets its users choose issuers, and has
// no Cache that can list its entries, gives each a RedirectURL with a path of its own.
// The listener of Loopback is bound to a loopback address, takes
// one answer, and closes. The page that the browser ends on has neither a token nor a
// code in it, in its address, or in the history.
//
// A Web sends the browser of each user away, and takes back what comes, from anybody. So
// what it must know of an attempt is in a sealed cookie of the browser that has begun it,
// and bound to the application's user, the provider, the client and the redirect URI: an
// answer in another browser, for another user, or at the address of another provider has no
// effect. Each provider needs a WebConfig.RedirectURL of its own (RFC 9700 section 4.4.2.2).
// A login begins only with a request of this site that the user has made; the browser's
// Sec-Fetch-Site and Origin tell. What has come back once is not used again.
//
// The address that is opened is not a secret, but other users of the machine may see
// it in the list of processes, and with it the state. Config.PAR keeps it from them.
package login
