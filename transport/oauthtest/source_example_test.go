package oauthtest_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A program's client over a server for tests: all that a program does, and nothing
// leaves the process.
func ExampleServer_Login() {
	ctx := context.Background()
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
	defer srv.Close()

	p, err := provider.Discovery{Base: srv.RoundTripper()}.Provider(ctx, srv.URL())
	check(err)
	endpoint := p.Endpoint(srv.ClientID(), tokencache.Secret(srv.ClientSecret()))
	endpoint.Base = srv.RoundTripper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	check(err)
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
	check(err)
	defer source.Close(ctx)
	login := srv.Login("alice").Record()
	login.Expiry = time.Now() // so that the first call needs another token
	check(source.Login(ctx, login))
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{srv.APIOrigin()}, Base: srv.RoundTripper()})
	check(err)

	resp, err := (&http.Client{Transport: rt}).Get(srv.APIURL() + "/things")
	check(err)
	resp.Body.Close()
	fmt.Println(resp.Status, "after", srv.Counts().Rotations, "refresh")
	// Output: 200 OK after 1 refresh
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
