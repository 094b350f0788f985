package login_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// An API that wants the user to have logged in in another way (RFC 9470), such as with a second
// factor, gets that, once.
func ExampleConfig_cause() {
	ctx := context.Background()
	server, stop := startServer()
	defer stop()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	p, err := provider.Discover(ctx, server.URL())
	if err != nil {
		log.Fatal(err)
	}
	endpoint := p.Endpoint(server.ClientID(), "", "api")
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(ctx)
	if err := source.Login(ctx, server.Login("ann").Record()); err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{server.APIOrigin()}})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: rt}

	server.DemandAuthentication("phr", 0) // resistant to phishing
	for range 2 {
		resp, err := client.Get(server.APIURL())
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
		var cause error
		for _, challenge := range transport.ParseChallenges(resp.Header) {
			cause = errors.Join(cause, challenge)
		}
		if cause == nil {
			break
		}
		status, err := source.Status(ctx)
		if err != nil {
			log.Fatal(err)
		}
		former, _, err := cache.Load(ctx, status.Key)
		if err != nil {
			log.Fatal(err)
		}
		tokens, err := login.Loopback(ctx, login.Config{
			Provider: p, Endpoint: endpoint, Cache: cache,
			Cause: cause, Former: former,
			Open: browser, Out: io.Discard, // A real program leaves these out.
		})
		if err == nil {
			err = source.Login(ctx, tokens)
		}
		if err != nil { // The challenge itself, if no login helps.
			log.Fatal(err)
		}
	}
	// Output:
	// 401 Unauthorized
	// 200 OK
}
