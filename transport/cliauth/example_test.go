package cliauth_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/cliauth"
	"github.com/stayauth/stayauth/transport/provider"
)

// A program that logs its user in, also when the login ends in the middle of a long run.
func ExampleClient_Login() {
	ctx := context.Background()
	p := provider.GitLab("")
	client, err := cliauth.Open(ctx, cliauth.Config{
		App: "my-app", Provider: p, Endpoint: p.Endpoint(os.Getenv("CLIENT_ID"), "", "read_api"),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	get := func() (*http.Response, error) { return client.Get("https://gitlab.com/api/v4/user") }
	resp, err := get()
	if errors.Is(err, transport.ErrLoginRequired) {
		if err := client.Login(ctx, err); err != nil {
			log.Print(err)
			return
		}
		resp, err = get()
	}
	if err != nil {
		log.Print(err)
		return
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
}
