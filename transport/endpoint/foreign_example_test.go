package endpoint_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A token that is given to the program for one run is used and not stored: the next run
// without it is not logged in.
func ExampleFromTokenSource() {
	const token = "given" // os.Getenv("CI_TOKEN")
	given := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token})
	cache, err := tokencache.New(new(tokencache.Memory), nil) // It ends with the process.
	if err != nil {
		log.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Refresher: endpoint.FromTokenSource(given),
		Key:       tokencache.Key{Issuer: "https://ci.example.com", ClientID: "ci"},
	})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{"https://api.example.com"}, Base: api{}})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Get("https://api.example.com/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	if err := source.Close(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output: 200 OK
}

// A provider whose errors are its own: what they mean is said once.
func ExampleEndpoint() {
	endpoint := &endpoint.Endpoint{
		TokenURL: "https://login.example.com/token",
		ClientID: "my-app",
		Codes: map[string]transport.Kind{
			"session_ended":         transport.ErrLoginRequired, // an error code
			"try again in a minute": transport.ErrUnavailable,   // a phrase of a description
		},
	}
	fmt.Println(endpoint.Check(nil))
	// Output: stayauth: refresh: login required; log in first: there is no refresh token
}

// An api takes the token that was given.
type api struct{}

func (api) RoundTrip(req *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: 401, Status: "401 Unauthorized", Header: http.Header{}, Body: http.NoBody, Request: req}
	if req.Header.Get("Authorization") == "Bearer given" {
		resp.StatusCode, resp.Status = 200, "200 OK"
	}
	return resp, nil
}
