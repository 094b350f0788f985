package login_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A program whose users have several accounts stores each login under the user's identifier, and
// lets them choose by name.
func ExampleChoose() {
	ctx := context.Background()
	server := oauthtest.New(oauthtest.Config{AuthStyle: oauthtest.AuthNone, Scope: "openid api"})
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	p, err := provider.Discover(ctx, server.URL())
	if err != nil {
		log.Fatal(err)
	}
	endpoint := p.Endpoint(server.ClientID(), "", "openid", "api") // openid: who the user is

	for _, user := range []string{"ann@example.com", "bob@example.com"} {
		tokens, err := login.Loopback(ctx, login.Config{
			Provider: p, Endpoint: endpoint, Cache: cache, AuthParams: map[string][]string{"login_hint": {user}},
			Open: browser, Out: io.Discard, // A real program leaves these out.
		})
		if err != nil {
			log.Fatal(err)
		}
		source, err := transport.NewSource(transport.SourceConfig{
			Cache: cache, Refresher: endpoint, Key: tokencache.Key{Account: login.AccountOf(tokens).Subject},
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := source.Login(ctx, tokens); err != nil {
			log.Fatal(err)
		}
		source.Close(ctx)
	}

	// In a later run:
	accounts, err := login.Accounts(ctx, cache, tokencache.Key{ClientID: endpoint.ClientID})
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range accounts {
		fmt.Println(a.Name)
	}
	ann, err := login.Choose(accounts, "ann@example.com")
	fmt.Println("chosen:", ann.Key.Account, err) // ann.Key is for SourceConfig.Key.
	// Output:
	// ann@example.com
	// bob@example.com
	// chosen: ann@example.com <nil>
}
