package endpoint_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A provider for which package provider has no preset, and which publishes no metadata: all that
// a client has to know of it.
func Example() {
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily}) // a provider for tests
	defer srv.Close()
	e := &endpoint.Endpoint{
		Issuer:        "https://login.example.com", // names its logins in the cache
		TokenURL:      srv.TokenURL(),
		RevocationURL: srv.URL() + "/revoke",
		ClientID:      srv.ClientID(),
		ClientSecret:  tokencache.Secret(srv.ClientSecret()),
		AuthStyle:     oauth2.AuthStyleInHeader, // is never found out by trial: a refresh token may be spent once
		Base:          srv.RoundTripper(),       // default: connections of its own
	}
	login := srv.Login("ann").Record() // see package login
	login.Expiry = time.Now()

	ctx := context.Background()
	source, err := transport.NewSource(transport.SourceConfig{Cache: exampleCache(), Refresher: e})
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(ctx)
	if err := source.Login(ctx, login); err != nil {
		log.Fatal(err)
	}
	tok, err := source.Token(ctx)
	fmt.Println(tok.Type, srv.Valid(string(tok.AccessToken)), err)
	// Output: Bearer true <nil>
}

// A program that acts for itself and not for a user needs no login.
func ExampleEndpoint_ClientCredentials() {
	ctx := context.Background()
	srv := oauthtest.New(oauthtest.Config{})
	defer srv.Close()
	e := &endpoint.Endpoint{TokenURL: srv.TokenURL(), Base: srv.RoundTripper(), Scopes: []string{"api"},
		ClientID: srv.ClientID(), ClientSecret: tokencache.Secret(srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader}
	source, err := transport.NewSource(transport.SourceConfig{Cache: exampleCache(), Refresher: e.ClientCredentials()})
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(ctx)
	tok, err := source.Token(ctx)
	fmt.Println(srv.Valid(string(tok.AccessToken)), err)
	// Output: true <nil>
}

// A program that logs in with golang.org/x/oauth2, and lets stayauth keep the login from then
// on. Package migrate takes over logins that were stored before.
func ExampleFromOAuth2() {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"an access token","refresh_token":"a refresh token","expires_in":3600}`)
	}))
	defer provider.Close()
	ctx := context.Background()
	conf := oauth2.Config{ClientID: "my-app", Endpoint: oauth2.Endpoint{TokenURL: provider.URL, AuthStyle: oauth2.AuthStyleInParams}}
	tok, err := conf.Exchange(ctx, "a code", oauth2.VerifierOption(oauth2.GenerateVerifier()))
	if err != nil {
		log.Fatal(err)
	}

	source, err := transport.NewSource(transport.SourceConfig{Cache: exampleCache(),
		Refresher: &endpoint.Endpoint{TokenURL: provider.URL, ClientID: "my-app"}})
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(ctx)
	if err := source.Login(ctx, endpoint.FromOAuth2(tok)); err != nil {
		log.Fatal(err)
	}
	status, err := source.Status(ctx)
	fmt.Println(status.State, err)
	// Output: fresh <nil>
}

func exampleCache() *tokencache.Cache {
	cache, err := tokencache.New(new(tokencache.Memory), nil) // oskeyring.Open for one that lasts
	if err != nil {
		log.Fatal(err)
	}
	return cache
}
