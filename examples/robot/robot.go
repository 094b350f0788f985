package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/provider"
)

// A robot calls an API, as itself and on behalf of users. It has no secret: it proves who it is
// by a key, or by a token of the platform that it runs on.
type robot struct {
	api   string
	self  *transport.Source
	users *transport.Pool // each user has a token

	asItself, asUser *transport.Transport
}

// newRobot returns a robot. It shares its tokens with all others that have the same directory,
// and takes over those that it finds there.
func newRobot(ctx context.Context, o options, tell func(transport.Event)) (*robot, error) {
	metadata := provider.Discovery{Dir: filepath.Join(o.dir, "providers")} // It also starts while the provider is down.
	p, err := metadata.Provider(ctx, o.issuer)
	if err != nil {
		return nil, err
	}
	store, err := tokencache.OpenDir(filepath.Join(o.dir, "tokens"))
	if err != nil {
		return nil, err
	}
	cache, err := tokencache.New(store, tokencache.KeyFile(filepath.Join(o.dir, "sealing-key")))
	if err != nil {
		return nil, err
	}
	endpoint := p.Endpoint(o.clientID, "", o.scopes...)
	key := clientauth.KeyFile(o.keyFile, o.keyID) // It is read again when it has changed.
	endpoint.ClientAuth = &clientauth.PrivateKey{Key: key}
	if o.tokenFile != "" {
		endpoint.ClientAuth = clientauth.TokenFile(o.tokenFile)
	}
	onBehalf := grants.JWTBearer(endpoint, grants.JWT{Key: key}) // The key also signs for whom a token is.
	if o.subjects != nil {
		onBehalf = grants.TokenExchange(endpoint, grants.Exchange{Subject: o.subject})
	}

	r := &robot{api: o.api}
	config := transport.SourceConfig{Cache: cache, Refresher: endpoint.ClientCredentials(),
		OnEvent: func(_ context.Context, e transport.Event) { tell(e) },
		Logger:  slog.New(slog.DiscardHandler)} // What it would log is told.
	if r.self, err = transport.NewSource(config); err != nil {
		return nil, err
	}
	config.Refresher = onBehalf
	if r.users, err = transport.NewPool(transport.PoolConfig{Source: config}); err != nil {
		return nil, err
	}
	u, err := url.Parse(o.api)
	if err != nil {
		return nil, err
	}
	origins := []string{u.Scheme + "://" + u.Host} // Tokens go nowhere else.
	if r.asItself, err = transport.New(transport.Config{Source: r.self, Origins: origins}); err != nil {
		return nil, err
	}
	r.asUser, err = transport.New(transport.Config{Pool: r.users, Origins: origins})
	return r, err
}

// subject returns the token that a user has brought: here it is in a file, and in a service it
// may come with the user's request, or from the session.
func (o options) subject(_ context.Context, key tokencache.Key) (grants.Subject, error) {
	token, err := o.subjects.ReadFile(key.Account)
	return grants.Subject{Token: tokencache.Secret(bytes.TrimSpace(token))}, err
}

// call calls the API once for a user, or for the robot itself if user is "".
func (r *robot) call(ctx context.Context, user string) (answer []byte, err error) {
	client := http.Client{Transport: r.asItself, Timeout: 30 * time.Second}
	if user != "" {
		client.Transport, ctx = r.asUser, transport.WithAccount(ctx, user)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.api, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the API answered %s", resp.Status)
	}
	return answer, err
}

// work calls the API for itself and for the users, again and again until ctx is done. No call
// waits for a token that is about to expire: it has been renewed by then.
func (r *robot) work(ctx context.Context, users []string, every time.Duration, done func(user string, answer []byte, err error)) error {
	var all sync.WaitGroup
	all.Go(func() { r.self.KeepFresh(ctx) })
	all.Go(func() { r.users.KeepFresh(ctx) })
	for _, user := range append([]string{""}, users...) {
		all.Go(func() {
			for ; ctx.Err() == nil; pause(ctx, every) {
				answer, err := r.call(ctx, user)
				if err == nil || ctx.Err() == nil { // otherwise the robot itself has given up
					done(user, answer, err)
				}
			}
		})
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(r.self.Close(ctx), r.users.Close(ctx)) // What is being renewed is stored.
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
