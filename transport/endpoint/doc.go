// Package endpoint is the client of an OAuth 2.0 token endpoint: it exchanges codes, spends and
// revokes refresh tokens, and knows what the answers of providers mean.
//
// An [Endpoint] is the [transport.Refresher] of most programs. It knows nothing about how a
// login is kept: it presents once what it is handed, and returns what it learns. A
// [transport.Source] decides when to do that, under which lock, and what becomes of the answer.
// Package transport/provider makes Endpoints for many providers, and package login uses them to
// log in.
//
// [FromTokenSource] turns an oauth2.TokenSource into a Refresher, for tokens that another
// library obtains, and [FromOAuth2] takes a login over from another library; package
// transport/migrate finds those that other programs have stored.
//
// # Answers
//
// The meaning of an answer is decided by its error code, not by its status; [Endpoint.Codes]
// adds the codes and phrases of a particular provider. Whatever is odd about an answer, the
// refresh token in it is not lost: numbers may be strings, JSON may be sent as text or within
// another object, and forms are understood as well. No error repeats the body, or a secret of
// the request or the answer.
//
// # Patience
//
// A provider that is slow, overloaded or frozen for a minute works through all the requests
// that it was sent once it goes on. A refresh token that was presented again meanwhile is then
// taken for stolen. So an [Endpoint] waits for an answer for minutes, under the login's lock,
// and presents the token again only when the first request can no longer be answered:
//
//   - the connection was reset or closed, or the operating system found out that nobody is at
//     the other end, which takes 15 to 20 s. Token requests have a connection of their own, so
//     none vanishes in one that fell silent long ago;
//   - the provider answered nothing for a while, is back, and still does not answer this
//     request;
//   - five minutes have passed in which the provider answered everything else.
//
// It tells these cases apart by harmless questions, HEAD requests to the token endpoint without
// any secret, which begin 15 s after the request. Callers without a good token get an error
// after 15 s, which says that the answer is overdue, and from then on at once. Time in which
// this process was stopped does not count.
package endpoint
