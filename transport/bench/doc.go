// Package bench measures what stayauth costs, next to other libraries that
// authorize requests, and next to what cannot be avoided.
//
//	go run ./cmd/measure
//
// runs everything, prints the tables and writes the plots; flags select parts. It compares
// ratios within one run, of measurements that take turns: times on one machine say little about
// another. The single benchmarks can be run as well:
//
//	go test -run='^$' -bench=. -count=10 | tee new.txt && benchstat new.txt
//
// # What is compared
//
// stub is the API without any network: it only makes a response. floor is the least that a
// RoundTripper must do in addition, since it must not modify its request: copy the request,
// clone its header, and add a value that exists already.
//
// oauth2 is golang.org/x/oauth2: Transport with ReuseTokenSource. google is
// cloud.google.com/go/auth (v0.16.5): the middleware of httptransport with a cached token
// provider. azcore is BearerTokenPolicy in the shortest pipeline that
// runtime.NewPipeline makes, which also logs, traces, retries and reads the response.
//
// served, proofs and assertions send requests to a server in another process, so that the
// processor time is that of the client alone. For that the contenders take turns every few
// milliseconds, on the same connections; for the latencies their requests are sent in random order.
// again is the floor once more: it shows how far two measurements of the
// same thing lie apart. service is stayauth as a service that authenticates by private_key_jwt.
//
// The floor of proofs also makes one signature, and sends a proof that it had already. indigo is
// atproto/auth/oauth of github.com/bluesky-social/indigo, the client of the AT Protocol: its
// DoWithAuth, since it has no RoundTripper.
//
// The floor of assertions posts a form that it had already, over a connection of its own as an
// Endpoint does, makes one signature, and decodes the answer. "a secret" is stayauth without the
// signature: with a client secret.
package bench
