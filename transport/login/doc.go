// Package login logs a user in: it obtains the first tokens of a login, which a
// transport.Source then keeps alive.
//
//	p, err := provider.Discover(ctx, "https://login.example.com")
//	endpoint := p.Endpoint("my-app", "", "read", "write")
//	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
//
//	tokens, err := login.Loopback(ctx, login.Config{Provider: p, Endpoint: endpoint, Cache: cache})
//	err = source.Login(ctx, tokens)
package login
