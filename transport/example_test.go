package transport_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// exampleConfig is for the login of one user at a provider for tests.
func exampleConfig(srv *oauthtest.Server) transport.SourceConfig {
	cache, err := tokencache.New(new(tokencache.Memory), nil) // oskeyring.Open for one that lasts
	if err != nil {
		log.Fatal(err)
	}
	return transport.SourceConfig{Cache: cache, Refresher: &endpoint.Endpoint{
		TokenURL: srv.TokenURL(), Base: srv.RoundTripper(),
		ClientID: srv.ClientID(), ClientSecret: tokencache.Secret(srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader,
	}}
}

// exampleLogin is what package login brings: tokens of a minute ago.
func exampleLogin(srv *oauthtest.Server) *tokencache.Record {
	tokens := srv.Login("ann").Record()
	tokens.ObtainedAt = time.Now().Add(-time.Minute)
	return tokens
}

// An http.Client that stays logged in. That an API rejects the token is not noticed by the
// program: the token is renewed, and the request sent once more, body included.
func Example() {
	ctx := context.Background()
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily}) // a provider and an API for tests
	defer srv.Close()
	source, err := transport.NewSource(exampleConfig(srv))
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(ctx) // a refresh that is under way is stored
	if err := source.Login(ctx, exampleLogin(srv)); err != nil {
		log.Fatal(err)
	}

	rt, err := transport.New(transport.Config{Source: source, Origins: []string{srv.APIOrigin()}, Base: srv.RoundTripper()})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: rt}

	srv.RevokeAccess(srv.Current("ann").AccessToken)
	resp, err := client.Post(srv.APIURL()+"/notes", "text/plain", strings.NewReader("hello"))
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, "after", srv.Counts().Rotations, "refresh")
	// Output: 200 OK after 1 refresh
}

// An error says by its kind what to do, also within the *url.Error of an http.Client.
func ExampleError() {
	react := func(err error) string {
		e, ok := errors.AsType[*transport.Error](err)
		switch {
		case !ok:
			return "another error"
		case e.Kind == transport.ErrLoginRequired:
			return "let the user log in" // see login.Config.Cause
		case e.Kind == transport.ErrMisconfigured:
			return "tell the operator: " + e.Remedy
		case e.Kind == transport.ErrStorage:
			return "make the token cache usable: unlock the keyring, make room on the disk"
		case e.RetryAt.IsZero():
			return "try again later"
		default: // ErrUnavailable, ErrAmbiguous
			return "try again when the provider is asked next, at RetryAt"
		}
	}

	ctx := context.Background()
	srv := oauthtest.New(oauthtest.Config{})
	defer srv.Close()
	cfg := exampleConfig(srv)
	source, err := transport.NewSource(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(ctx)
	_, err = source.Token(ctx)
	fmt.Println(react(err))

	expired := exampleLogin(srv)
	expired.Expiry = time.Now()
	if err := source.Login(ctx, expired); err != nil {
		log.Fatal(err)
	}
	srv.Fault("/token", 0, oauthtest.Status(503, time.Hour))
	_, err = source.Token(ctx)
	fmt.Println(react(err))

	_, err = transport.New(transport.Config{Source: source, Origins: []string{"http://api.example.com"}})
	fmt.Println(react(err))
	// Output:
	// let the user log in
	// try again when the provider is asked next, at RetryAt
	// tell the operator: use https: over http anybody on the way reads the token (plain http is for loopback addresses only)
}

// A service refreshes before any request needs it.
func ExampleSource_KeepFresh() {
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
	defer srv.Close()
	refreshed := make(chan struct{})
	cfg := exampleConfig(srv)
	cfg.OnEvent = func(_ context.Context, e transport.Event) {
		if e.Type == transport.EventRefreshed {
			close(refreshed)
		}
	}
	source, err := transport.NewSource(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(context.Background())
	due := exampleLogin(srv)
	due.RefreshAt = time.Now()
	if err := source.Login(context.Background(), due); err != nil {
		log.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background()) // signal.NotifyContext in a service
	defer stop()
	go source.KeepFresh(ctx)

	<-refreshed
	fmt.Println(srv.Counts().Rotations, "refresh, and nobody has waited for it")
	// Output: 1 refresh, and nobody has waited for it
}

// An API client that takes an oauth2.TokenSource instead of an http.Client.
func ExampleSource_OAuth2() {
	srv := oauthtest.New(oauthtest.Config{})
	defer srv.Close()
	source, err := transport.NewSource(exampleConfig(srv))
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(context.Background())
	if err := source.Login(context.Background(), exampleLogin(srv)); err != nil {
		log.Fatal(err)
	}

	var ts oauth2.TokenSource = source.OAuth2() // option.WithTokenSource(ts), for instance
	tok, err := ts.Token()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(srv.Valid(tok.AccessToken), "and no refresh token:", tok.RefreshToken == "")
	// Output: true and no refresh token: true
}

// A Transport is a credentials.PerRPCCredentials. gRPC calls its methods if it is given to
// grpc.WithPerRPCCredentials; examples/grpc is a whole program.
func ExampleTransport_GetRequestMetadata() {
	ctx := context.Background()
	srv := oauthtest.New(oauthtest.Config{})
	defer srv.Close()
	source, err := transport.NewSource(exampleConfig(srv))
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(ctx)
	if err := source.Login(ctx, exampleLogin(srv)); err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{"https://api.example.com"}})
	if err != nil {
		log.Fatal(err)
	}

	md, err := rt.GetRequestMetadata(ctx, "https://api.example.com/notes.Notes")
	fmt.Println(md["authorization"] == "Bearer "+srv.Current("ann").AccessToken, err)
	_, err = rt.GetRequestMetadata(ctx, "https://elsewhere.example.com/notes.Notes")
	fmt.Println(errors.Is(err, transport.ErrMisconfigured), rt.RequireTransportSecurity())
	// Output:
	// true <nil>
	// true true
}
