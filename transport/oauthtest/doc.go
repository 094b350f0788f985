// Package oauthtest provides an OAuth 2.0 authorization server, and an API that it protects,
// for tests of clients.
//
// Most things that go wrong with refresh tokens go wrong with servers that nobody can have in a
// test: one that rotates refresh tokens and revokes the login when an old one comes back, one
// that commits and then loses the answer, one that is down for two hours. A [Server] can be
// told to be each of these, and counts what a client did to it.
//
// # Reaching it
//
// [New] starts nothing. There are four ways to reach a Server, which may be mixed:
//
//   - [Server.RoundTripper]: real HTTP over in-memory pipes, at https://auth.test and
//     https://api.test. It works in a testing/synctest bubble, where days pass in no time, if
//     the Server is created and closed in the bubble.
//   - [Server.Direct]: a function call, for hundreds of thousands of requests.
//   - [Server.Start] and [Server.StartTLS]: TCP on 127.0.0.1, for other processes.
//   - [Server.Handler]: for a listener of your own.
//
// A program under test reaches it through its Endpoint and its Transport:
//
//	endpoint := &endpoint.Endpoint{
//		TokenURL:     s.TokenURL(),
//		ClientID:     s.ClientID(),
//		ClientSecret: tokencache.Secret(s.ClientSecret()),
//		AuthStyle:    oauth2.AuthStyleInHeader, // as Config.AuthStyle says
//		Base:         s.RoundTripper(),
//	}
//	rt, err := transport.New(transport.Config{Source: source, Origins: []string{s.APIOrigin()}, Base: s.RoundTripper()})
//
// [Server.Login] makes a login without any flow, and [Tokens.Record] returns it as a
// transport.Source takes it. /authorize consents by itself, as the account that the
// parameter login_hint names, or else "user", so a login flow can be tested without a browser.
//
// # What the client did
//
// [Server.Counts] says how many requests the client made and what it did wrong. The count that
// matters most is Reuses: a well-made client never presents a refresh token that it has spent.
// [Server.Secrets] is for tests that no secret leaks, and [Server.Strays] for tests that no
// token is sent to a stranger.
//
// # What goes wrong
//
// [Config] says what a provider is like at all times: its [Policy], its clocks, its latency,
// and whether tokens are bound to keys ([DPoP]).
// [Server.PublishResource] has the API say which authorization server it trusts, or a lie.
// [Server.Fault] makes single requests go wrong, [Server.Down] is an outage, and
// [Server.Freeze] a server that hears everything and says nothing. A [Fault] is a piece of
// middleware, and faults can be combined:
//
//	s.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Drop))         // spent, and no answer
//	s.Fault("/token", 3, oauthtest.Status(503, time.Minute))            // not spent, Retry-After: 60
//	s.Fault("/token", 0, oauthtest.ErrorStatus(200))                    // GitHub, until Heal
//	s.Fault("/token", 1, oauthtest.Slow(20*time.Second))                // worked on late, though the client may have gone
//	s.Fault("", 0, oauthtest.Status(429, 0))                            // too many requests, for all
//	s.Fault("/api", 0, oauthtest.Challenge(401))                        // an API that rejects everything
//	s.Fault("/api", 1, oauthtest.Stall(oauthtest.Challenge(401)))       // and does not finish to say so
//	s.Fault("/api", 1, oauthtest.Redirect(302, "https://other.test/"))  // then look at Strays
//
// [Server.DemandScope], [Server.DemandAuthentication] and [Server.DemandClaims] make the API ask for
// more than a token has, until a login or a refresh brings that.
//
// # What it is not
//
// It is not a provider to deploy: it consents to everything, keeps everything in memory for
// ever, and reveals its secrets to anybody who asks.
package oauthtest
