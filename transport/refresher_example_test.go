package transport_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A delegate obtains tokens in the name of users who have not logged in here, by
// assertions about them (RFC 7523). What it does not do itself, the Endpoint does.
type delegate struct {
	*endpoint.Endpoint
	assertion func(user string) string
}

// Check finds that nothing has to be stored already.
func (delegate) Check(*tokencache.Record) error { return nil }

func (d delegate) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	return d.Grant(ctx, "urn:ietf:params:oauth:grant-type:jwt-bearer",
		url.Values{"assertion": {d.assertion(current.Key.Account)}})
}

// A grant that differs from user to user is a Refresher of a Pool: the record that it is
// given says whose token is wanted.
func ExampleRefresher() {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"access_token":"token for %s","expires_in":3600}`, r.PostFormValue("assertion"))
	}))
	defer provider.Close()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{
		Cache: cache,
		Refresher: delegate{
			Endpoint:  &endpoint.Endpoint{TokenURL: provider.URL, ClientID: "service"},
			assertion: func(user string) string { return "a statement about " + user },
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	for _, user := range []string{"ann", "bob"} {
		tok, err := pool.Source(user).Token(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(tok.AccessToken))
	}
	// Output:
	// token for a statement about ann
	// token for a statement about bob
}

// An identified sends the ID token to the API, as Kubernetes and some gateways want it.
type identified struct{ *endpoint.Endpoint }

func (i identified) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	rec, err := i.Endpoint.Refresh(ctx, current)
	if rec == nil {
		return nil, err
	}
	if rec.AccessToken = rec.IDToken; rec.IDToken == "" && err == nil {
		// The new refresh token is to be saved nevertheless.
		err = &transport.Error{Kind: transport.ErrMisconfigured, Op: "refresh", Remedy: `ask for the scope "openid"; the answer has no ID token`}
	}
	return rec, err
}

// An API that wants the ID token instead of the access token. What Exchange returns for
// Login is to be changed alike.
func ExampleRefresher_idToken() {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"access_token":"an access token","id_token":"an ID token","refresh_token":"the next","expires_in":3600}`)
	}))
	defer provider.Close()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache,
		Refresher: identified{&endpoint.Endpoint{TokenURL: provider.URL, ClientID: "kubectl"}}})
	if err != nil {
		log.Fatal(err)
	}
	if err := source.Login(context.Background(), &tokencache.Record{RefreshToken: "the first"}); err != nil {
		log.Fatal(err)
	}
	tok, err := source.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(tok.AccessToken))
	// Output: an ID token
}
