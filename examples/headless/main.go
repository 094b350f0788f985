// Headless keeps a login where there may be no OS keyring: in a container, a
// service, or over SSH. It names every place for the sealing key that it accepts,
// in order, and says which one is used; nothing is chosen behind its back.
//
//	go run ./examples/headless
//	STAYAUTH_PASSPHRASE=… go run ./examples/headless
//	systemd-run --user --pty -p LoadCredential=stayauth-key:/path/to/32/random/bytes …
//	go run ./examples/headless -key-file /run/secrets/stayauth-key
//
// It brings a provider and an API of its own, logs in, and then does what the next
// start of the same program would do: it opens the store again and goes on with the
// stored login. What it stored is removed at the end, unless -dir says where to
// keep it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func main() {
	dir := flag.String("dir", "", "`directory` for the sealed login; the default is a temporary one")
	keyFile := flag.String("key-file", "", "accept a key in this `file`, in the clear, if nothing better works")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *dir, *keyFile); err != nil {
		fmt.Fprintln(os.Stderr, "headless:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, dir, keyFile string) error {
	if dir == "" {
		temp, err := os.MkdirTemp("", "headless-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		dir = temp
	}
	config := oskeyring.Config{
		App: "stayauth-headless",
		Dir: dir,
		Accept: []oskeyring.KeyChoice{
			oskeyring.Keyring(), // on a developer's desktop
			oskeyring.Credential("stayauth-key"),
			oskeyring.PassphraseEnv("STAYAUTH_PASSPHRASE"),
		},
		Logger: slog.New(slog.DiscardHandler), // what it would log is printed below
	}
	if keyFile != "" {
		config.Accept = append(config.Accept, oskeyring.KeyFile(keyFile))
	}

	provider := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Second})
	defer provider.Close()

	// Open comes before the login, so that no code is spent on one that cannot be kept.
	cache, info, err := config.Open(ctx)
	if err != nil {
		return fmt.Errorf("%w\n\nStart it with STAYAUTH_PASSPHRASE set, with a systemd credential called stayauth-key, or with -key-file", err)
	}
	fmt.Fprintln(out, info)
	source, err := newSource(provider, cache)
	if err != nil {
		return err
	}
	login := provider.Login("ann") // a device code flow, in real life
	err = source.Login(ctx, &tokencache.Record{
		AccessToken:  tokencache.Secret(login.AccessToken),
		RefreshToken: tokencache.Secret(login.RefreshToken),
		TokenType:    "Bearer",
		Expiry:       login.Expiry,
	})
	if err != nil {
		return err
	}
	if err := call(ctx, out, "logged in", provider, source); err != nil {
		return err
	}

	time.Sleep(time.Second) // the token expires

	cache, info, err = config.Open(ctx)
	if err != nil {
		return err
	}
	if source, err = newSource(provider, cache); err != nil {
		return err
	}
	if err := call(ctx, out, "started again, key: "+info.Key, provider, source); err != nil {
		return err
	}
	c := provider.Counts()
	fmt.Fprintf(out, "renewed %d times; no refresh token was used twice: %t\n", c.Rotations, c.Reuses == 0)
	return nil
}

// newSource is what is the same at every start.
func newSource(provider *oauthtest.Server, cache *tokencache.Cache) (*transport.Source, error) {
	return transport.NewSource(transport.SourceConfig{
		Cache: cache,
		Refresher: &endpoint.Endpoint{
			TokenURL:     provider.TokenURL(),
			ClientID:     provider.ClientID(),
			ClientSecret: tokencache.Secret(provider.ClientSecret()),
			AuthStyle:    oauth2.AuthStyleInHeader,
			Base:         provider.RoundTripper(),
		},
	})
}

// call calls the API once.
func call(ctx context.Context, out io.Writer, what string, provider *oauthtest.Server, source *transport.Source) error {
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{provider.APIOrigin()}, Base: provider.RoundTripper()})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, provider.APIOrigin()+"/api", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Fprintf(out, "%s: the API answers %s\n", what, resp.Status)
	return source.Close(ctx)
}
