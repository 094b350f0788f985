package login_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A whole program: it logs in if that is needed, and calls an API.
func Example() {
	ctx := context.Background()
	server, stop := startServer()
	defer stop()

	cache, err := tokencache.New(new(tokencache.Memory), nil) // A real program has a tokencache.Dir.
	if err != nil {
		log.Fatal(err)
	}
	p, err := provider.Discover(ctx, server.URL())
	if err != nil {
		log.Fatal(err)
	}
	endpoint := p.Endpoint(server.ClientID(), "", "api")
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(ctx)

	if status, err := source.Status(ctx); err != nil {
		log.Fatal(err)
	} else if status.State == transport.StateEmpty || status.State == transport.StateDead {
		tokens, err := login.Loopback(ctx, login.Config{
			Provider: p, Endpoint: endpoint, Cache: cache,
			Open: browser, Out: io.Discard, // A real program leaves these out.
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := source.Login(ctx, tokens); err != nil {
			log.Fatal(err)
		}
	}

	rt, err := transport.New(transport.Config{Source: source, Origins: []string{server.APIOrigin()}})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Get(server.APIURL())
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

func ExampleLoopback() {
	server, stop := startServer()
	defer stop()
	p, err := provider.Discover(context.Background(), server.URL())
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := login.Loopback(context.Background(), login.Config{
		Provider: p,
		Endpoint: p.Endpoint(server.ClientID(), "", "api"),
		Open:     browser,    // A real program leaves these out,
		Out:      io.Discard, // and the user's browser opens.
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("scope:", tokens.Scope, "access token:", tokens.AccessToken)
	// Output: scope: api access token: [redacted]
}

func ExampleDevice() {
	server, stop := startServer()
	defer stop()
	// The user needs no time, and so the server lets the program ask without pauses.
	server.Fault("/device_authorization", 1, oauthtest.Edit(func(answer map[string]any) { answer["interval"] = 0.01 }))

	p, err := provider.Discover(context.Background(), server.URL())
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := login.Device(context.Background(), login.Config{
		Provider: p,
		Endpoint: p.Endpoint(server.ClientID(), "", "api"),
		Out:      io.Discard, // A program with a window shows the code there.
		OnPrompt: func(prompt login.Prompt) {
			fmt.Println("enter the code at", strings.TrimPrefix(prompt.URL, server.URL()))
			server.ApproveDevice(prompt.UserCode, "alice")
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("scope:", tokens.Scope)
	// Output:
	// enter the code at /device
	// scope: api
}

func ExamplePaste() {
	server, stop := startServer()
	defer stop()
	p, err := provider.Discover(context.Background(), server.URL())
	if err != nil {
		log.Fatal(err)
	}
	input, user := io.Pipe() // A real program reads what the user pastes from os.Stdin.
	tokens, err := login.Paste(context.Background(), login.Config{
		Provider: p,
		Endpoint: p.Endpoint(server.ClientID(), "", "api"),
		In:       input,
		Out:      io.Discard,
		OnPrompt: func(prompt login.Prompt) {
			go func() { fmt.Fprintln(user, addressAfter(prompt.URL)) }()
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("scope:", tokens.Scope)
	// Output: scope: api
}

// A command-line program leaves the choice to the package.
func ExampleAuto() {
	ctx := context.Background()
	p := provider.GitHub()
	endpoint := p.Endpoint("Iv1.0123456789abcdef", "")
	tokens, err := login.Auto(ctx, login.Config{Provider: p, Endpoint: endpoint})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("logged in at", tokens.AuthorizedAt)
}

// startServer starts a provider whose users consent to everything.
func startServer() (*oauthtest.Server, func()) {
	server := oauthtest.New(oauthtest.Config{AuthStyle: oauthtest.AuthNone})
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	return server, server.Close
}

// browser is a user who logs in with a browser.
func browser(_ context.Context, url string) error {
	go func() {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
		}
	}()
	return nil
}

// addressAfter is a user who logs in with a browser, and sees where it ends.
func addressAfter(url string) string {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	return resp.Header.Get("Location")
}
