// Package transport keeps an HTTP client logged in: it attaches an OAuth 2.0
// access token to each request, renews the token before it expires or when an API
// refuses it, and stores the renewed login so that it survives restarts, crashes,
// outages and other processes.
//
//	endpoint := &transport.Endpoint{TokenURL: "https://auth.example.com/token", ClientID: "my-app"}
//	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
//	rt, err := transport.New(transport.Config{Source: source, Origins: []string{"https://api.example.com"}})
//	client := &http.Client{Transport: rt}
//
// # Parts
//
// An [Endpoint] is a client of a token endpoint. A [Source] keeps one login: it
// decides when to renew the token, and does so in a critical section that all
// processes which share the login respect. A [Transport] uses a Source to authorize
// the requests of an http.Client. [Source.OAuth2] serves everything that takes an
// oauth2.TokenSource instead.
//
// # Why a refresh is not just a request
//
// Providers rotate refresh tokens: each may be spent once, the answer brings its
// successor, and whoever presents a spent one is taken for a thief, which ends the
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
//     to the provider or to the cache. One that another process has stored counts too:
//     whoever would fail looks for it, up to ten times a second.
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
// The window for that is the answer's way back and the save. The save takes 1 to 2 ms
// (median), from the answer's arrival until the successor is stored durably, in a
// tokencache.Dir on a local disk of a machine with two cores, with the key in a file. A
// key in the OS keyring changes nothing, because a process asks for it only once. The
// longest of 2 000 took 0.1 to 0.6 s, on a machine with ten times more to do than it
// could; so
//
//	STAYAUTH_FAULTS=full go test -v -run TheCrashWindow ./transport/faultstest
//
// measures it where it matters. Of 1 000 processes that were killed at random moments, at
// a provider that took 0.4 s for a refresh and forgave nothing, 36 took a login with them,
// and each loss was explained. At providers with any grace, 4 000 kills cost none.
// (Tokens lived for 1.5 s there, so that processes refreshed most of the time.)
//
// # Errors
//
// Every function returns an *[Error], whose [Kind] says what to do: log in again,
// fix the configuration, or wait until RetryAt.
//
// While a provider is down, a process asks it ever more rarely: after about a second at
// first and after two minutes in the end, each time at random between nothing and twice
// that, so that clients do not come back all at once. Who has no good token finds out
// that an outage of one minute is over after half a minute more (median; 95 of 100 within
// two minutes), and after four minutes at most however long it was, unless it is told to
// wait longer; or as soon as any process that shares the login does.
//
// # Events
//
// What happens to a login between two calls is told to [SourceConfig.OnEvent] and to
// the log; [Event] has a table of what there is and what to do about it. Package
// transport/otel makes OpenTelemetry metrics and traces of it. [Source.Status] tells
// how a login is now.
package transport
