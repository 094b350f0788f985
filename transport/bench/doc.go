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
package bench
