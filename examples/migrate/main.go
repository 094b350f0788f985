// Migrate shows how a program moves from golang.org/x/oauth2 to stayauth without another login,
// and what happens if the old program is not stopped. README.md is about all the rest.
//
//	go run ./examples/migrate
//
// It brings a provider and an API of its own, over loopback addresses. The provider is a strict
// one: each refresh token can be spent once, and whoever presents it again ends the login.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "migrate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	provider := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
	if err := provider.Start(); err != nil {
		return err
	}
	defer provider.Close()
	dir, err := os.MkdirTemp("", "migrate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "token.json")
	if err := writeToken(path, &oauth2.Token{RefreshToken: provider.Login("ann").RefreshToken}); err != nil {
		return err
	}
	store, err := tokencache.OpenDir(filepath.Join(dir, "logins"))
	if err != nil {
		return err
	}
	cache, err := tokencache.New(store, tokencache.KeyFile(filepath.Join(dir, "key"))) // oskeyring.Open in a program for desktops
	if err != nil {
		return err
	}

	conf := &oauth2.Config{ClientID: provider.ClientID(), ClientSecret: provider.ClientSecret(),
		Endpoint: oauth2.Endpoint{TokenURL: provider.TokenURL(), AuthStyle: oauth2.AuthStyleInHeader}}
	e := &endpoint.Endpoint{TokenURL: provider.TokenURL(), AuthStyle: oauth2.AuthStyleInHeader,
		ClientID: provider.ClientID(), ClientSecret: tokencache.Secret(provider.ClientSecret())}
	step := func(name string, resp *http.Response, err error) {
		if err == nil {
			resp.Body.Close()
			fmt.Fprintf(out, "%s: the API answers %s\n", name, resp.Status)
		} else {
			fmt.Fprintf(out, "%s: %v\n", name, err)
		}
		if err := anHourPasses(ctx, path, cache); err != nil {
			fmt.Fprintln(out, err)
		}
	}
	was := func(name string) {
		resp, err := before(ctx, conf, path, provider.APIURL())
		step(name, resp, err)
	}
	is := func(name string) {
		resp, err := after(ctx, e, cache, path, provider.APIOrigin(), provider.APIURL())
		step(name, resp, err)
	}
	was("with x/oauth2")
	was("started again")
	is("with stayauth, which has imported token.json")
	is("started again")
	c := provider.Counts()
	fmt.Fprintln(out, "one login,", c.Rotations, "refreshes, and refresh tokens presented twice:", c.Reuses)

	was("the old program, which has not been removed")
	is("after that, with stayauth")
	return nil
}

// anHourPasses makes access tokens expire that are stored, so that each start has to refresh.
func anHourPasses(ctx context.Context, path string, cache *tokencache.Cache) error {
	then := time.Now().Add(-time.Minute)
	tok, err := readToken(path)
	if err != nil {
		return err
	}
	tok.Expiry = then
	if err := writeToken(path, tok); err != nil {
		return err
	}
	for rec, err := range cache.List(ctx) {
		if err != nil {
			return err
		}
		rec, version, err := cache.Load(ctx, rec.Key)
		if err != nil {
			return err
		}
		rec.Expiry = then
		if _, err := cache.Save(ctx, rec.Key, rec, version); err != nil {
			return err
		}
	}
	return nil
}
