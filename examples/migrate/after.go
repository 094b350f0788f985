package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/migrate"
)

// after is the program with stayauth. The file is read as long as there is one: what is in the
// cache is newer, and stays.
func after(ctx context.Context, e *endpoint.Endpoint, cache *tokencache.Cache, path, origin, url string) (*http.Response, error) {
	if err := migrate.Import(ctx, cache, e, "", path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: e})
	if err != nil {
		return nil, err
	}
	defer source.Close(ctx)
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{origin}})
	if err != nil {
		return nil, err
	}
	return (&http.Client{Transport: rt}).Get(url)
}
