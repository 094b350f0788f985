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
	ctx := context.Background()
	p := provider.GitLab("")
	endpoint := p.Endpoint(os.Getenv("CLIENT_ID"), "", "read_api")
	cache, _, err := oskeyring.Open(ctx, "my-app") // sealed records in a directory, their key in the OS keyring
	check(err)
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
	check(err)
	if _, err := source.Token(ctx); errors.Is(err, transport.ErrLoginRequired) {
		tokens, err := login.Loopback(ctx, login.Config{Provider: p, Endpoint: endpoint, Cache: cache})
		check(err)
		check(source.Login(ctx, tokens))
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: p.Origins})
	check(err)
	resp, err := (&http.Client{Transport: rt}).Get("https://gitlab.com/api/v4/user")
	check(err)
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
