package transport_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// examplePool returns a Pool at a provider for tests, and a client of an API that knows
// the users of that.
func examplePool(srv *oauthtest.Server) (*transport.Pool, *http.Client, error) {
	cache, err := tokencache.New(new(tokencache.Memory), nil) // a service has a store that its replicas share
	if err != nil {
		return nil, nil, err
	}
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{
		Cache: cache,
		Refresher: &endpoint.Endpoint{
			TokenURL: srv.TokenURL(), Base: srv.RoundTripper(),
			ClientID: srv.ClientID(), ClientSecret: tokencache.Secret(srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader,
		},
	}})
	if err != nil {
		return nil, nil, err
	}
	rt, err := transport.New(transport.Config{Pool: pool, Origins: []string{srv.APIOrigin()}, Base: srv.RoundTripper()})
	return pool, &http.Client{Transport: rt}, err
}

// A service acts for many users. Each has a Source in the Pool, and the context of a
// request names whose token it gets.
func ExampleNewPool() {
	srv := oauthtest.New(oauthtest.Config{})
	defer srv.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pool, client, err := examplePool(srv)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(context.Background())
	go pool.KeepFresh(ctx) // so that no request waits for a refresh

	for _, user := range []string{"ann", "bob"} {
		if err := pool.Source(user).Login(ctx, srv.Login(user).Record()); err != nil {
			log.Fatal(err)
		}
	}
	for _, user := range []string{"ann", "bob", "eve"} {
		req, err := http.NewRequestWithContext(transport.WithAccount(ctx, user), "GET", srv.APIURL(), nil)
		if err != nil {
			log.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			fmt.Println(user, err)
			continue
		}
		var echo oauthtest.Echo
		json.NewDecoder(resp.Body).Decode(&echo)
		resp.Body.Close()
		fmt.Println(user, "calls as", echo.Account)
	}
	// Output:
	// ann calls as ann
	// bob calls as bob
	// eve Get "https://api.test/api": stayauth: refresh: login required; log in first: there is no refresh token
}

// The handler of a service knows from the session whose request it is; what it calls
// need not.
func ExampleWithAccount() {
	srv := oauthtest.New(oauthtest.Config{})
	defer srv.Close()
	pool, client, err := examplePool(srv)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(context.Background())
	listThings := func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, "GET", srv.APIURL()+"/things", nil)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		return resp.Status, nil
	}

	if err := pool.Source("ann").Login(context.Background(), srv.Login("ann").Record()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(listThings(transport.WithAccount(context.Background(), "ann")))
	// Output: 200 OK <nil>
}

// What is done to one login, is done to its Source: log in, log out, look.
func ExamplePool_Source() {
	srv := oauthtest.New(oauthtest.Config{})
	defer srv.Close()
	ctx := context.Background()
	pool, _, err := examplePool(srv)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(ctx)
	ann := pool.Source("ann")
	for _, do := range []func() error{
		func() error { return nil },
		func() error { return ann.Login(ctx, srv.Login("ann").Record()) },
		func() error { return ann.Forget(ctx) },
	} {
		if err := do(); err != nil {
			log.Fatal(err)
		}
		status, err := ann.Status(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status.State)
	}
	// Output:
	// empty
	// fresh
	// empty
}
