package main

import (
	"context"
	"io"
	"net/http"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// logInAlone logs in at a provider that asks the user nothing: the browser is this
// program. All else is as in real life: the authorization code comes back to a
// listener on a loopback address, and is exchanged for tokens.
func logInAlone(ctx context.Context, p *provider.Provider, e *endpoint.Endpoint) (*tokencache.Record, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	open := func(ctx context.Context, url string) error {
		go func() {
			if err := browse(ctx, url); err != nil {
				cancel(err)
			}
		}()
		return nil
	}
	return login.Loopback(ctx, login.Config{Provider: p, Endpoint: e, Open: open, Out: io.Discard})
}

// browse opens url like a browser, which follows redirects.
func browse(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
