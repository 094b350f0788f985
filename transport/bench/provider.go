package bench

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

var quiet = slog.New(slog.DiscardHandler)

// newSource returns a Source of the server's, logged in as the account unless that
// is "", and reaching the token endpoint through base.
func newSource(ctx context.Context, srv *oauthtest.Server, cache *tokencache.Cache, base http.RoundTripper, login oauthtest.Tokens) (*transport.Source, error) {
	source, err := transport.NewSource(transport.SourceConfig{
		Cache:  cache,
		Logger: quiet,
		Refresher: &endpoint.Endpoint{
			TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), ClientSecret: tokencache.Secret(srv.ClientSecret()),
			AuthStyle: oauth2.AuthStyleInHeader, Base: base,
		},
	})
	if err != nil {
		return nil, err
	}
	return source, source.Login(ctx, &tokencache.Record{
		AccessToken: tokencache.Secret(login.AccessToken), RefreshToken: tokencache.Secret(login.RefreshToken),
		TokenType: "Bearer", ObtainedAt: time.Now(), Expiry: login.Expiry,
	})
}

// memory returns a cache that needs no disk.
func memory() *tokencache.Cache {
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		panic(err) // A Memory needs no keys.
	}
	return cache
}

// onDisk returns a cache as a program would have it: sealed files.
func onDisk(dir string) (*tokencache.Cache, error) {
	store, err := tokencache.OpenDir(dir + "/tokens")
	if err != nil {
		return nil, err
	}
	return tokencache.New(store, tokencache.KeyFile(dir+"/key"))
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
