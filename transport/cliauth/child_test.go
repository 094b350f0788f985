package cliauth_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/cliauth"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// What a child is told, and how it says that it handles signals itself.
const (
	childVariable = "CLIAUTH_TEST_CHILD" // the directory
	issuerOf      = "CLIAUTH_TEST_ISSUER"
	handles       = "CLIAUTH_TEST_HANDLES"
	works         = "CLIAUTH_TEST_WORKS"  // for a minute, unless it is interrupted
	second        = "CLIAUTH_TEST_SECOND" // opens a Client of another account, too
)

func childCache(dir string) (*tokencache.Cache, error) {
	store, err := tokencache.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	return tokencache.New(store, tokencache.KeyFile(filepath.Join(dir, "key")))
}

// child is a program that opens a Client, if this process is one.
func child() {
	dir := os.Getenv(childVariable)
	if dir == "" {
		return
	}
	ctx, stop := context.Background(), func() {}
	if os.Getenv(handles) != "" {
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt)
	}
	cache, err := childCache(dir)
	if err == nil {
		var p *provider.Provider
		if p, err = provider.Discover(ctx, os.Getenv(issuerOf)); err == nil {
			p.Origins = []string{os.Getenv(issuerOf)}
			if os.Getenv(second) != "" {
				go func() {
					cfg := cliauth.Config{Provider: p, Endpoint: p.Endpoint("client", "", "api"), Cache: cache, Login: nobody, Account: "second"}
					if client, err := cliauth.Open(ctx, cfg); err == nil {
						client.Close()
					}
				}()
			}
			var client *cliauth.Client
			if client, err = cliauth.Open(ctx, cliauth.Config{Provider: p, Endpoint: p.Endpoint("client", "", "api"), Cache: cache, Login: nobody}); err == nil {
				if os.Getenv(works) != "" {
					select {
					case <-ctx.Done():
					case <-time.After(time.Minute):
					}
				}
				err = client.Close()
			}
		}
	}
	interrupted := ctx.Err() != nil
	stop()
	if interrupted {
		os.Exit(3)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func nobody(_ context.Context, cfg login.Config) (*tokencache.Record, error) {
	return nil, errors.New("the login is lost")
}
