// Package transport keeps an HTTP client logged in: it attaches an OAuth 2.0
// access token to each request, renews the token before it expires or when an API
// refuses it, and stores the renewed login so that it survives restarts, crashes,
// outages and other processes.
//
//	auth := &endpoint.Endpoint{TokenURL: "https://auth.example.com/token", ClientID: "my-app"}
//	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: auth})
//	rt, err := transport.New(transport.Config{Source: source, Origins: []string{"https://api.example.com"}})
//	client := &http.Client{Transport: rt}
//
// # Parts
//
// A [Refresher] is who renews tokens: usually an Endpoint of package
// [github.com/stayauth/stayauth/transport/endpoint], the client of a token endpoint, which
// package transport/provider makes for many providers. A [Source] keeps one login: it
// decides when to renew the token, and does so in a critical section that all
// processes which share the login respect. A [Transport] uses a Source to authorize
// the requests of an http.Client. [Source.OAuth2] serves everything that takes an
// oauth2.TokenSource instead.
//
// # Why a refresh is not just a request
//
// Providers rotate refresh tokens: each may be spent once, the answer brings its
// successor, and a client that presents a spent one is taken for a thief, which ends the
// login for everybody (RFC 9700 section 4.14.2). So to refresh is to read, spend and
// write, once, across all processes. A Source takes the login's lock, reads the cache
// again, makes sure that the answer can be stored, notes that a refresh is in flight,
// sends the refresh token, stores its successor durably, and only then lets anybody
// use the new access token. Nobody's context cancels that: the caller's bounds its
// own wait.
//
// # Guarantees
//
//   - While an access token is good, callers get it without waiting, whatever happens
//     to the provider or to the cache, and no response is held back for a refresh. One
//     that another process has stored counts too: a call that would fail looks for it, up to
//     ten times a second.
//   - A refresh that a request has started is seen to its end: when a program has closed
//     the body of its last response, or was given the last error, the refresh is saved, if
//     it took no more than Config.Settle. Token alone starts none in the background in a
//     process that uses the login for less than a minute. What takes longer, or was
//     started by a request that ended with a redirect which the client does not follow,
//     [Source.Flush] and [Source.Close] wait for.
//   - At most one process at a time spends the refresh token of a login, and never one
//     whose successor is stored.
//   - A stored login is replaced by a newer one, and removed by [Source.Logout] and
//     [Source.Forget]; by nothing else, in particular not by an error.
//   - A token goes only to the listed origins, and a refresh token only to the token,
//     revocation and logout endpoints it belongs to. A client secret goes there too, and
//     to the provider's endpoints for pushed authorization requests and for devices if a
//     login uses them. No redirect carries any of them elsewhere.
//   - A token is used for what it was asked for: Sources whose Endpoints ask for another
//     resource, audience or, for client credentials, scope share none, in one cache too.
//   - No error, log line or printed value of this package contains a secret.
//
// # Not guaranteed
//
//   - If a process or machine dies, or the answer is lost, after the provider has
//     rotated the refresh token and before its successor is stored, the login survives
//     only if the provider accepts the spent token once more. Many do, for some seconds
//     or minutes. The next process tries that first, a second after the lost request was
//     sent so as not to overtake it. If the token is refused, the error says that a refresh
//     was interrupted.
//   - Processes that use the same refresh token through something else than a shared
//     cache cannot be coordinated.
//   - An access token works until its API no longer takes it. That a login was revoked
//     is noticed at the next refresh, or when an API answers 401.
//
// The window for that is the answer's way back and the save, which takes a millisecond or
// two on a local disk. The tests in internal/faultstest measure it, and count what
// processes that are killed at random moments lose.
//
// # Errors
//
// Errors are *[Error], whose [Kind] says what to do: log in again, fix the configuration,
// or wait until RetryAt.
//
// While a provider is down, one login asks for all that share a [Gate] whether it
// is back, and the others follow when it is, spread over some seconds. As long as somebody
// goes without a token, it asks every ten seconds or so, by a harmless question first:
// in simulations callers have a token 8 s after the provider is back (median) and 20 s
// at most, however long that took. While nobody does, the pauses grow to two minutes on
// average.
// A provider's Retry-After is obeyed, up to ten minutes.
//
// # Events
//
// What happens to a login between two calls is told to [SourceConfig.OnEvent] and to
// the log; [Event] has a table of what there is and what to do about it. Package
// transport/otelstayauth turns it into OpenTelemetry metrics and traces.
// [Source.Status] tells how a login is now.
package transport
