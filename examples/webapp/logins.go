package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// The logins of all users with one provider.
type logins struct {
	web    *login.Web      // connects and disconnects accounts
	pool   *transport.Pool // keeps them connected
	client *http.Client    // calls the API in their names
	pages  string          // the origin of the provider's pages
	store  tokencache.Store
}

// openLogins returns the logins. Each replica has its own, and what they share is in the
// store. user says who has sent a request.
func openLogins(ctx context.Context, o options, user func(*http.Request) (string, error), onEvent func(context.Context, transport.Event)) (*logins, error) {
	store, err := openStore(ctx, o)
	if err != nil {
		return nil, err
	}
	// A real application has the keys from its secret manager.
	cache, err := tokencache.New(store, tokencache.KeyFile(filepath.Join(o.dir, "token-key")))
	if err != nil {
		return nil, err
	}
	cookieKey, err := keyFile(filepath.Join(o.dir, "cookie-key"))
	if err != nil {
		return nil, err
	}

	p, err := provider.Discovery{Dir: filepath.Join(o.dir, "providers")}.Provider(ctx, o.issuer)
	if err != nil {
		return nil, err
	}
	p.Origins = []string{originOf(o.api)}
	endpoint := p.Endpoint(o.clientID, tokencache.Secret(o.clientSecret), strings.Fields(o.scopes)...)
	pool, err := transport.NewPool(transport.PoolConfig{
		Source: transport.SourceConfig{Cache: cache, Refresher: endpoint, Lead: p.Lead, OnEvent: onEvent},
	})
	if err != nil {
		return nil, err
	}
	web, err := login.NewWeb(login.WebConfig{
		Provider: p, Endpoint: endpoint, Pool: pool, Cache: cache,
		RedirectURL: o.url + "/callback",
		Keys:        [][]byte{cookieKey},
		Home:        "/accounts",
		User:        user,
		OnEvent:     onEvent,
	})
	if err != nil {
		return nil, err
	}
	rt, err := transport.New(transport.Config{Pool: pool, Origins: p.Origins})
	if err != nil {
		return nil, err
	}
	return &logins{web: web, pool: pool, client: &http.Client{Transport: rt}, pages: originOf(p.AuthURL), store: store}, nil
}

// close ends the logins when no requests come any more: what is under way is finished and
// saved before the store is closed.
func (l *logins) close(ctx context.Context) error {
	err := l.pool.Close(ctx)
	if s, ok := l.store.(*pgstore.Store); ok {
		s.Close()
	}
	return err
}

func openStore(ctx context.Context, o options) (tokencache.Store, error) {
	if o.store == "" {
		return tokencache.OpenDir(filepath.Join(o.dir, "logins"))
	}
	store, err := pgstore.Open(pgstore.Config{DSN: o.store})
	if err != nil {
		return nil, err
	}
	return store, store.Migrate(ctx)
}

// keyFile returns the key in a file, and makes one if there is none.
func keyFile(name string) ([]byte, error) {
	key := make([]byte, 32)
	rand.Read(key)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	_, err = f.Write(key)
	return key, errors.Join(err, f.Close())
}

func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
