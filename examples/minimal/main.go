// Minimal is the shortest program that logs in once and stays logged in.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	p := provider.GitLab("")
	endpoint := p.Endpoint(os.Getenv("CLIENT_ID"), "", "read_api")
	cache, _, err := oskeyring.Open(ctx, "my-app") // sealed records in a directory, their key in the OS keyring
	if err != nil {
		return err
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
	if err != nil {
		return err
	}
	defer source.Close(ctx) // whatever happens, a refresh that is under way is stored
	if _, err := source.Token(ctx); errors.Is(err, transport.ErrLoginRequired) {
		tokens, err := login.Loopback(ctx, login.Config{Provider: p, Endpoint: endpoint, Cache: cache})
		if err != nil {
			return err
		}
		if err := source.Login(ctx, tokens); err != nil {
			return err
		}
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: p.Origins})
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: rt}).Get("https://gitlab.com/api/v4/user")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
