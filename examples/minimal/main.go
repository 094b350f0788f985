// Minimal is the shortest program that logs its user in once, and stays logged in.
package main

import (
	"context"
	"log"
	"os"

	"github.com/stayauth/stayauth/transport/cliauth"
	"github.com/stayauth/stayauth/transport/provider"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	p := provider.GitLab(os.Getenv("GITLAB_URL")) // empty: gitlab.com
	client, err := cliauth.Open(ctx, cliauth.Config{App: "my-app", Provider: p, Endpoint: p.Endpoint(os.Getenv("CLIENT_ID"), "", "read_api")})
	if err != nil {
		return err
	}
	defer client.Close() // a refresh that is under way is stored
	resp, err := client.Get(p.Issuer + "/api/v4/user")
	if err != nil {
		return err
	}
	return resp.Write(os.Stdout)
}
