package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// use runs the program once against srv. The user agrees to log in if asked, and
// presses Ctrl-C after some calls.
func use(t *testing.T, srv *oauthtest.Server, o options) (screen string, asked bool, err error) {
	t.Helper()
	ctx, ctrlC := context.WithTimeout(t.Context(), time.Minute)
	defer ctrlC()
	var out bytes.Buffer
	open := func(ctx context.Context, url string) error {
		asked = true
		go browse(ctx, url) // What goes wrong shows in the answer, or in none.
		return nil
	}

	enough := srv.Counts().APICalls + 15
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil && srv.Counts().APICalls < enough {
			time.Sleep(time.Millisecond)
		}
		ctrlC()
	}()
	err = stayLoggedIn(ctx, o, plainTimeline(&out), open)
	ctrlC()
	<-done
	t.Logf("screen:\n%s", &out)
	wantNoSecret(t, strings.ReplaceAll(out.String(), o.clientID, ""), srv.Secrets())
	return out.String(), asked, err
}

// realProvider is a provider that the program knows only the issuer of, and a user
// who has never used the program.
func realProvider(t *testing.T) (*oauthtest.Server, options) {
	t.Helper()
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, Scope: "api offline_access"})
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	o := private(t)
	o.issuer, o.clientID, o.secret = srv.URL(), srv.ClientID(), tokencache.Secret(srv.ClientSecret())
	o.scopes, o.url = []string{"api", "offline_access"}, srv.APIURL()+"/me"
	return srv, o
}

func TestRealProvider(t *testing.T) {
	srv, o := realProvider(t)
	screen, asked, err := use(t, srv, o)
	if err != nil || !asked || !strings.Contains(screen, " 0 failed") {
		t.Fatalf("first run: asked to log in: %v, error: %v", asked, err)
	}
	srv.Fault("/.well-known/", 0, oauthtest.Status(http.StatusServiceUnavailable, 0))
	if _, asked, err := use(t, srv, o); err != nil || asked {
		t.Fatalf("second run: asked to log in: %v, error: %v", asked, err)
	}

	o.logout, o.url = true, ""
	tokens := srv.Current(account)
	if _, _, err := use(t, srv, o); err != nil {
		t.Fatal(err)
	}
	if srv.Valid(tokens.AccessToken) || srv.Valid(tokens.RefreshToken) {
		t.Error("the tokens outlive the logout")
	}
	o.logout, o.url = false, srv.APIURL()
	if _, asked, err := use(t, srv, o); err != nil || !asked {
		t.Errorf("after the logout: asked to log in: %v, error: %v", asked, err)
	}
	if c := srv.Counts(); c.Reuses != 0 {
		t.Errorf("the provider counted %+v", c)
	}
}

// The calls go on while the API fails, and the exit status tells.
func TestRealProviderWithBadAPI(t *testing.T) {
	srv, o := realProvider(t)
	srv.Fault("/api", 2, oauthtest.Status(http.StatusBadGateway, 0))
	screen, _, err := use(t, srv, o)
	if err == nil || exitStatus(t.Context(), io.Discard, err) != 1 {
		t.Errorf("error %v, want exit status 1", err)
	}
	if n := strings.Count(screen, "the API answered 502"); n != 1 {
		t.Errorf("the failure was told %d times, want 1", n)
	}
}

// A user who says no is no reason to go on, or to store anything.
func TestRealProviderRefusesLogin(t *testing.T) {
	srv, o := realProvider(t)
	o.scopes = []string{"everything"} // The provider grants only what it has.
	_, asked, err := use(t, srv, o)
	if !asked || err == nil || srv.Counts().TokenRequests != 0 {
		t.Errorf("asked to log in: %v, error: %v, %d codes exchanged", asked, err, srv.Counts().TokenRequests)
	}
}

func TestDiscoveryRefusesAnotherIssuer(t *testing.T) {
	srv, o := realProvider(t)
	o.issuer += "/" // Equal means equal: RFC 8414 section 3.3.
	_, _, err := use(t, srv, o)
	if err == nil || !strings.Contains(err.Error(), srv.URL()) {
		t.Errorf("got %v, want an error with the provider's own name", err)
	}
}
