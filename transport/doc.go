// Package transport keeps an HTTP client logged in: it attaches an OAuth 2.0 access token to
// each request, renews the token before it expires or when an API rejects it, and stores the
// renewed login so that it survives restarts, crashes, outages and other processes.
//
//	auth := &endpoint.Endpoint{TokenURL: "https://auth.example.com/token", ClientID: "my-app"}
//	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: auth})
//	rt, err := transport.New(transport.Config{Source: source, Origins: []string{"https://api.example.com"}})
//	client := &http.Client{Transport: rt}
//
// # Parts
//
// A [Refresher] renews tokens: usually it is an Endpoint of package
// [github.com/stayauth/stayauth/transport/endpoint], the client of a token endpoint, which
// package transport/provider makes for many providers. A [Source] keeps one login: it decides
// when to renew the token, and does so in a critical section that is respected by all processes
// that share the login. A [Transport] uses a Source to authorize the requests of an
// http.Client. [Source.OAuth2] serves everything that takes an oauth2.TokenSource instead. A
// [Pool] keeps the logins of many accounts.
//
// A command-line program needs only package transport/cliauth, which puts these parts together.
//
// # Why a refresh is not just a request
//
// Providers rotate refresh tokens: each may be spent once, the answer brings its successor, and
// a client that presents a spent one is taken for a thief: the login ends for everybody (RFC
// 9700 section 4.14.2). So a refresh has to read, spend and write exactly once, across all
// processes. A Source takes the login's lock, reads the cache again (a store on a server that holds
// what the Source has saved last says so as it gives the lock), makes sure that the answer can be
// stored, records that a refresh is in flight, sends the refresh token, persists its successor, and
// only then publishes the new access token. No context cancels that: a caller's context bounds only
// its own wait. Within a process, all callers share a single flight.
//
// # States
//
// A login is in one of these states, see [Status]. What callers get:
//
//   - fresh: the token, by one read of memory and no lock.
//   - stale (a third of its life is left, and at most five minutes): the token, while one refresh
//     runs in the background.
//   - expired (or rejected by an API): the next token, as soon as one refresh that all callers
//     share has brought it. Each waits no longer than its own context, and 15 s at most.
//   - outage (the last refresh has failed): the token while it is good, then at once an error with
//     the time of the next attempt.
//   - unsaved (refreshed, and the cache cannot be written): the token. The lock is held, and saving
//     is retried; Status, Flush, the log and OnEvent say so.
//   - dead (the provider has refused the refresh token): the token while it is good, then
//     ErrLoginRequired, without asking the provider again.
//   - empty (nobody has logged in, or somebody has logged out): ErrLoginRequired.
//
// A refresh leads from stale, expired or outage to fresh, and so does one of another process. A
// login leads there from any state, whichever process it is made in; from unsaved it takes a save.
//
// # Several APIs
//
// If a provider issues a token for each API (RFC 8707, Microsoft Entra), one login serves all of
// them: For of an Endpoint makes a Refresher of another access token of the same login, for a
// Source or a Pool of its own. They share the entry in the cache, its lock, and the refresh token;
// each has a token that no other gets. Transports are put in a chain, each as the Base of the next
// one, so that the origin of a request decides which token it gets. Log in and out by any of the
// Sources; the others notice it as other processes do, when they next read the cache. A service
// without a login needs no For: it has an Endpoint for each API, whose Params name that, and the
// ClientCredentials of each.
//
// # Guarantees
//
//   - While an access token is good, callers get it without waiting, whatever happens to the
//     provider or to the cache, and no response is held back for a refresh. A token that
//     another process has stored counts too: a call that would fail reloads the cache first, up
//     to ten times a second.
//   - A refresh that a request has started is completed: once a program has closed the body of
//     its last response, or received its last error, the refresh is saved, provided that it
//     took no longer than Config.Settle. Token alone starts no background refresh in a process
//     that has used the login for less than a minute. [Source.Flush] and [Source.Close] wait
//     for a refresh that takes longer, or that was started by a request whose response is a
//     redirect that the client does not follow.
//   - At most one process at a time spends the refresh token of a login, and none spends a
//     token whose successor is stored.
//   - A stored login is replaced only by a newer one, and removed only by [Source.Logout] and
//     [Source.Forget]; in particular, no error removes it.
//   - A token goes only to the listed origins, and a refresh token only to the token,
//     revocation and logout endpoints it belongs to. A client secret goes there too, and to the
//     provider's endpoints for pushed authorization requests and for device authorization if a
//     login uses them. No redirect carries any of them elsewhere.
//   - A token is used only for what it was requested for: Sources whose Endpoints ask for
//     different resources or audiences share no token, not even in one login; for grants
//     without a user that holds for everything that is asked for.
//   - No error, log line or printed value of this package contains a secret.
//
// # Not guaranteed
//
//   - If a process or machine dies, or the answer is lost, after the provider has rotated the
//     refresh token and before its successor is stored, the login survives only if the provider
//     accepts the spent token once more. Many do, for some seconds or minutes. The next process
//     tries that first, but no sooner than a second after the interrupted refresh wrote its
//     journal, so as not to overtake its request. If the provider refuses the token, or within
//     five minutes the next one, the error says that a refresh was interrupted: the provider
//     may have handled the lost request even later, and taken it for a reuse.
//   - Processes that use the same refresh token without sharing a cache cannot be coordinated.
//   - An access token works until its API no longer accepts it. A revoked login is noticed at
//     the next refresh, or when an API answers 401.
//
// The window in which a crash can lose a login is the time that the answer takes to arrive and
// to be saved. The tests in internal/faultstest measure it, and count the logins that are lost
// when processes are killed at random moments.
//
// # Errors
//
// Errors are *[Error], whose [Kind] says what to do: log in again, fix the configuration,
// or wait until RetryAt.
//
// While a provider is down, a [Gate] throttles the attempts of all logins that share it: one
// login finds out whether the provider is back, and the others follow when it is, spread over a
// few seconds. As long as some caller has no token, that login tries about every ten seconds,
// and sends a harmless request first; when no caller is without a token, the pauses grow to two
// minutes on average. Retry-After is obeyed, up to ten minutes, and the longer a provider has
// said that it has had enough (429), the more rarely it is asked: once a minute in the end.
//
// # Events
//
// [SourceConfig.OnEvent] and the log are notified of what happens to a login between two calls;
// [Event] lists the types of events and what to do about each. Package transport/otelstayauth
// turns events into OpenTelemetry metrics and traces. [Source.Status] describes the present
// state of a login.
package transport
