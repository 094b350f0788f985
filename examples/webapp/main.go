// Command webapp is a small web application whose users connect their accounts at a
// provider, so that it can call the provider's API for them: to copy from.
//
//	go run .                                     # a provider of its own, logins in a sealed directory
//	go run . -replicas 2                         # behind a proxy that takes them in turn
//	go run . -store postgres://app@db/logins     # logins and sessions in PostgreSQL
//	STAYAUTH_CLIENT_SECRET=... go run . -issuer https://login.example.com -client-id webapp -api https://api.example.com/me
//
// What an application needs is in logins.go, app.go, accounts.go and api.go. The others make
// it a whole: users.go and sessions.go are its users and their sessions, provider.go and
// proxy.go what surrounds it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type options struct {
	addr     string
	url      string
	dir      string
	store    string
	replicas int

	issuer       string
	clientID     string
	clientSecret string
	scopes       string
	moreScopes   string
	api          string

	tokenLife time.Duration // of the provider that comes with it
}

func (o *options) register(flags *flag.FlagSet) {
	flags.StringVar(&o.addr, "addr", "127.0.0.1:8080", "where to listen")
	flags.StringVar(&o.url, "url", "", "the public address, as https://app.example.com; default http:// and the one of -addr")
	flags.StringVar(&o.dir, "dir", "", "the directory for keys and, without -store, logins; default a new one, which is removed at the end")
	flags.StringVar(&o.store, "store", "", "where the logins and sessions are: postgres://...")
	flags.IntVar(&o.replicas, "replicas", 1, "how many servers share the work")
	flags.StringVar(&o.issuer, "issuer", "", "the provider; default one that comes with this program, for trying it out")
	flags.StringVar(&o.clientID, "client-id", "", "with -issuer: the client that is registered there, with the redirect URI /callback below -url")
	flags.StringVar(&o.scopes, "scopes", "openid profile", "what every user is asked for")
	flags.StringVar(&o.moreScopes, "more-scopes", "email", "what a user may allow besides")
	flags.StringVar(&o.api, "api", "", "with -issuer: the address that is called for the user")
	flags.DurationVar(&o.tokenLife, "token-life", time.Minute, "without -issuer: how long an access token is good")
	o.clientSecret = os.Getenv("STAYAUTH_CLIENT_SECRET") // never an argument, which others see
}

func main() {
	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 || o.replicas < 1 || o.issuer != "" && (o.clientID == "" || o.api == "") {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // A second one ends the program at once.
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "webapp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	site, err := start(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("Open %s and sign in as %s. The password is the name.\n", site.url, strings.Join(names(), " or "))
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return errors.Join(site.close(ctx))
}
