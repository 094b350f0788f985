// Package endpoint is the client of an OAuth 2.0 token endpoint: it exchanges codes, spends
// refresh tokens, revokes them, and knows what the answers of providers mean.
//
// An [Endpoint] is the [transport.Refresher] of most programs. It knows nothing of how a
// login is kept: what it is handed it presents once, and what it learns it returns. When to
// do that, under which lock, and what becomes of the answer, a [transport.Source] decides.
// Package transport/provider makes Endpoints for many providers, and package login uses
// them to log in.
//
// [FromTokenSource] makes a Refresher of an oauth2.TokenSource, for tokens that another
// library obtains, and [FromOAuth2] takes a login over from one.
//
// # Answers
//
// The error code of an answer says what it means, not its status; [Endpoint.Codes] adds
// what a provider has words of its own for. Whatever is odd about an answer, the refresh
// token in it is not lost: numbers may be strings, JSON may be sent as text or within
// another object, and a form does as well. No error repeats a secret of the request or the
// answer, nor the body.
//
// # Patience
//
// A provider that is slow, overloaded or frozen for a minute works through all that it was
// sent when it goes on. A refresh token that is presented again meanwhile is taken for
// stolen then. So an [Endpoint] waits for an answer for minutes, under the login's lock,
// and presents the token again only when the first request cannot be answered any more:
//
//   - the connection was reset or closed, or the system found out that nobody is at its
//     other end, which takes 15 to 20 s. Token requests have a connection of their own, so
//     none vanishes in one that fell silent long ago;
//   - the provider answered nobody for a while, is back, and still does not answer;
//   - five minutes have passed in which it answered everything else.
//
// It tells these apart by harmless questions, HEAD requests to the token endpoint without
// any secret, from 15 s after the request on. Callers without a good token are told after
// 15 s that the answer is overdue, and then at once. Time in which this process was
// stopped does not count.
package endpoint
