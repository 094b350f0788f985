package grants_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/provider"
)

// A service reads the files of two users of a Workspace domain. Its administrator has allowed the
// service account to act for them.
func ExampleGoogleServiceAccount() {
	refresher, err := grants.GoogleServiceAccount{
		File:   "/etc/app/service-account.json",
		Scopes: []string{"https://www.googleapis.com/auth/drive.readonly"},
	}.Refresher()
	if err != nil {
		fmt.Println("no such file")
		return
	}
	cache, err := tokencache.New(new(tokencache.Memory), nil) // replicas of a service share a store
	if err != nil {
		log.Fatal(err)
	}
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: refresher}})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Pool: pool, Origins: provider.Google().Origins})
	if err != nil {
		log.Fatal(err)
	}
	for _, user := range []string{"ann@example.com", "bob@example.com"} {
		ctx := transport.WithAccount(context.Background(), user)
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://www.googleapis.com/drive/v3/files", nil)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
	}
	// Output: no such file
}

// A GitHub App works in its installations: the account is the number of one.
func ExampleGitHubApp() {
	app := grants.GitHubApp{ClientID: "Iv23example", Key: clientauth.KeyFile("/etc/app/app.private-key.pem", "")}
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: app.Refresher()}})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Pool: pool, Origins: provider.GitHub().Origins})
	if err != nil {
		log.Fatal(err)
	}
	ctx := transport.WithAccount(context.Background(), "12345678")
	req, _ := http.NewRequestWithContext(ctx, "GET", "https://api.github.com/installation/repositories", nil)
	_, err = rt.RoundTrip(req)
	fmt.Println(strings.Contains(err.Error(), "no such file"))
	// Output: true
}

// A service acts for users of Salesforce, whose administrator has approved the app: the account is
// the username.
func ExampleJWTBearer() {
	p := provider.Salesforce("example.my.salesforce.com")
	refresher := grants.JWTBearer(p.Endpoint("client-id", ""), grants.JWT{
		Key:      clientauth.KeyFile("/etc/app/key.pem", ""),
		Audience: "https://login.salesforce.com",
	})
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: refresher}})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Pool: pool, Origins: p.Origins})
	if err != nil {
		log.Fatal(err)
	}
	ctx := transport.WithAccount(context.Background(), "ann@example.com")
	req, _ := http.NewRequestWithContext(ctx, "GET", "https://example.my.salesforce.com/services/data", nil)
	_, err = rt.RoundTrip(req)
	fmt.Println(strings.Contains(err.Error(), "no such file"))
	// Output: true
}

// A service calls another API for whoever calls it: Okta exchanges the caller's token, which the
// service has validated.
func ExampleOnBehalfOf() {
	p := provider.Okta("example.okta.com", "default")
	endpoint := p.Endpoint("0oa1example", "", "orders.read")
	endpoint.ClientAuth = &clientauth.PrivateKey{Key: clientauth.KeyFile("/etc/app/key.pem", "key-1"), EndpointAudience: true}
	endpoint.Params = url.Values{"audience": {"api://orders"}}
	pool, err := transport.NewPool(transport.PoolConfig{Source: grants.OnBehalfOf(endpoint)})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Pool: pool, Origins: []string{"https://orders.example.com"}})
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/orders", func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		ctx := grants.WithCaller(r.Context(), tokencache.Secret(token))
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://orders.example.com/", nil)
		resp, err := rt.RoundTrip(req)
		switch {
		case errors.Is(err, transport.ErrLoginRequired):
			http.Error(w, "log in again", http.StatusUnauthorized)
		case err != nil:
			http.Error(w, "the orders cannot be had now", http.StatusServiceUnavailable)
		default:
			defer resp.Body.Close()
			io.Copy(w, resp.Body)
		}
	})
}
