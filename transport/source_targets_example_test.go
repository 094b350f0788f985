package transport_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// One login for two APIs, each of which accepts only tokens that are for it: the Transport of one
// is the Base of the other, so that the origin of a request decides which token it gets.
func Example_severalAPIs() {
	const files, mail = "https://files.test", "https://mail.test"
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, Resources: []string{files, mail}})
	defer srv.Close()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	check(err)
	auth := &endpoint.Endpoint{
		TokenURL: srv.TokenURL(), Base: srv.RoundTripper(),
		ClientID: srv.ClientID(), ClientSecret: tokencache.Secret(srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader,
		Params: url.Values{"resource": {files}}, AuthParams: url.Values{"resource": {files, mail}}, // for a token, and at the login
	}

	filesSource, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: auth})
	check(err)
	mailSource, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: auth.For(url.Values{"resource": {mail}})})
	check(err)
	rt, err := transport.New(transport.Config{Source: filesSource, Origins: []string{files}, Base: srv.RoundTripper()})
	check(err)
	rt, err = transport.New(transport.Config{Source: mailSource, Origins: []string{mail}, Base: rt})
	check(err)

	check(filesSource.Login(context.Background(), srv.Login("ann").Record()))
	for _, api := range []string{files, mail, files} {
		resp, err := (&http.Client{Transport: rt}).Get(api + "/api")
		check(err)
		resp.Body.Close()
		fmt.Println(api, resp.Status)
	}
	fmt.Println(srv.Counts().Rotations, "refresh")
	// Output:
	// https://files.test 200 OK
	// https://mail.test 200 OK
	// https://files.test 200 OK
	// 1 refresh
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
