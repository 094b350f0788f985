package cliauth_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/cliauth"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

func TestMain(m *testing.M) {
	child()
	testkit.Main(testkit.Waiting(m))
}

// A world is a provider, a store, and a user with a browser.
type world struct {
	t      *testing.T
	srv    *oauthtest.Server
	store  *tokencache.Memory
	user   string
	logins int

	account string
	cfg     login.Config // of the last login
}

func newWorld(t *testing.T, cfg oauthtest.Config) *world {
	cfg.AuthStyle, cfg.Scope = oauthtest.AuthNone, "openid api more"
	w := &world{t: t, srv: oauthtest.New(cfg), store: new(tokencache.Memory), user: "ann"}
	if err := w.srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.srv.Close)
	return w
}

// config is that of a run of the program.
func (w *world) config() cliauth.Config {
	w.t.Helper()
	p, err := provider.Discover(w.t.Context(), w.srv.URL())
	if err != nil {
		w.t.Fatal(err)
	}
	p.Origins = []string{w.srv.APIOrigin()}
	cache, err := tokencache.New(w.store, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return cliauth.Config{Provider: p, Endpoint: p.Endpoint(w.srv.ClientID(), "", "openid", "api"), Cache: cache, Account: w.account, Login: w.login}
}

// login is that of a user with a browser.
func (w *world) login(ctx context.Context, cfg login.Config) (*tokencache.Record, error) {
	w.logins++
	w.cfg = cfg
	cfg.AuthParams, cfg.Out = map[string][]string{"login_hint": {w.user}}, io.Discard
	cfg.Open = func(_ context.Context, url string) error {
		go func() {
			if resp, err := http.Get(url); err == nil {
				resp.Body.Close()
			}
		}()
		return nil
	}
	return login.Loopback(ctx, cfg)
}

func (w *world) open() *cliauth.Client {
	w.t.Helper()
	client, err := cliauth.Open(w.t.Context(), w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := client.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return client
}

func (w *world) get(client *cliauth.Client) (*http.Response, error) {
	resp, err := client.Get(w.srv.APIURL())
	if err == nil {
		resp.Body.Close()
	}
	return resp, err
}

// wantOK is a request that has to succeed.
func (w *world) wantOK(client *cliauth.Client) {
	w.t.Helper()
	if resp, err := w.get(client); err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("the API answers %v, %v", resp, err)
	}
}

// The user logs in once, whatever number of runs there is and however often the token expires, and
// once more when the login has ended.
func TestOneLoginForAllRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Second})
	for range 3 {
		w.wantOK(w.open())
		time.Sleep(time.Second) // The token has expired, however long this takes.
	}
	if c := w.srv.Counts(); w.logins != 1 || c.Reuses != 0 {
		t.Fatalf("%d logins, %d reuses", w.logins, c.Reuses)
	}
	w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
	w.user = "bob" // who may have the machine now
	w.wantOK(w.open())
	if w.logins != 2 {
		t.Errorf("%d logins", w.logins)
	}
}

// A login that ends in the middle of a run is an error that says so. The program may have the user
// log in and go on, but not as somebody else.
func TestLoginEndsInTheMiddleOfARun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Second})
	client := w.open()
	w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
	time.Sleep(time.Second)
	_, err := w.get(client)
	if !errors.Is(err, transport.ErrLoginRequired) {
		t.Fatalf("error %v", err)
	}
	w.user = "bob"
	if err := client.Login(t.Context(), err); !errors.Is(err, login.RefusedOtherAccount) {
		t.Errorf("a login of another user: %v", err)
	}
	w.user = "ann"
	if err := client.Login(t.Context(), err); err != nil {
		t.Fatal(err)
	}
	w.wantOK(client)
}

// An API that demands another scope gets it by one more login, which keeps the scopes of the first
// one, and the same demand directly afterwards leads to no third.
func TestStepUp(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	client := w.open()
	w.srv.DemandScope("more")
	challenge := func() error {
		t.Helper()
		resp, err := w.get(client)
		if err != nil {
			t.Fatal(err)
		}
		if challenges := transport.ParseChallenges(resp.Header); len(challenges) > 0 {
			return challenges[0]
		}
		return nil
	}
	cause := challenge()
	if err := client.Login(t.Context(), cause); err != nil {
		t.Fatal(err)
	}
	if w.cfg.Former == nil || w.cfg.Cause == nil {
		t.Error("the login is not one in place of the former")
	}
	w.wantOK(client)
	if err := client.Login(t.Context(), cause); !errors.Is(err, login.RefusedRepeated) {
		t.Errorf("the same demand again: %v", err)
	}
}

// Several goroutines that want a login get one: the user has one browser window to answer. If the
// caller that has opened it has gone, the others ask again.
func TestConcurrentLogins(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.open()
	w.logins = 0
	cfg, release, begun := w.config(), make(chan struct{}), make(chan struct{}, 10)
	inner := cfg.Login
	cfg.Login = func(ctx context.Context, lc login.Config) (*tokencache.Record, error) {
		begun <- struct{}{}
		select {
		case <-release:
			return inner(ctx, lc)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	client, err := cliauth.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 10)
	for i := range 10 {
		ctx := ctx
		if i > 0 {
			ctx = t.Context()
		}
		go func() { results <- client.Login(ctx, nil) }()
		if i == 0 {
			<-begun
		}
	}
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that has gone: %v", err)
	}
	<-begun
	for deadline := time.Now().Add(time.Minute); callersOfLogin() < 9; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not all wait")
		}
	}
	close(release)
	for range 9 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if w.logins != 1 {
		t.Errorf("%d logins", w.logins)
	}
	w.wantOK(client)
}

// callersOfLogin returns how many goroutines are in Client.Login.
func callersOfLogin() int {
	stacks := make([]byte, 1<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("cliauth.(*Client).Login("))
}

// Close may be called again, as by a deferred call, and by several goroutines.
func TestCloseAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oauthtest.Config{})
	client := w.open()
	closed := make(chan error)
	for range 3 {
		go func() { closed <- client.Close() }()
	}
	for range 3 {
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
}

// Each account of the program has a login of its own.
func TestAccounts(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	for _, w.user = range []string{"ann", "bob", "ann", "bob"} {
		cfg := w.config()
		cfg.Account = "work of " + w.user
		client, err := cliauth.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		token, err := client.Source.Token(t.Context())
		if err != nil || string(token.AccessToken) != w.srv.Current(w.user).AccessToken {
			t.Errorf("%s has another token; error %v", w.user, err)
		}
		client.Close()
	}
	if w.logins != 2 {
		t.Errorf("%d logins", w.logins)
	}
}

// The login of an account with a name is made again as it was when it has ended: with its scopes,
// and by the same user. Another one has to log out first.
func TestTheNextRunMakesTheSameLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Second})
	w.account = "work"
	client := w.open()
	if err := client.Login(t.Context(), transport.Challenge{Scheme: "bearer", Params: map[string]string{"error": "insufficient_scope", "scope": "more"}}); err != nil {
		t.Fatal(err)
	}
	token, err := client.Source.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.srv.RevokeFamily(string(token.AccessToken))
	time.Sleep(time.Second)

	w.user = "bob"
	if _, err := cliauth.Open(t.Context(), w.config()); !errors.Is(err, login.RefusedOtherAccount) {
		t.Errorf("another user: %v", err)
	}
	w.user = "ann"
	again, err := w.open().Source.Token(t.Context())
	if err != nil || again.Scope != "openid api more" {
		t.Errorf("the same user: scope %q, %v", again.Scope, err)
	}
	if err := cliauth.Logout(t.Context(), w.config()); err != nil {
		t.Error(err)
	}
	w.user = "bob"
	w.wantOK(w.open())
}

// Of several runs that begin together, as those of make -j, one asks the user.
func TestRunsThatBeginTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
	var all sync.WaitGroup
	for range 8 {
		cfg := w.config()
		all.Go(func() {
			client, err := cliauth.Open(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			defer client.Close()
			if resp, err := w.get(client); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("the API answers %v, %v", resp, err)
			}
		})
	}
	all.Wait()
	if w.logins != 1 {
		t.Errorf("%d logins", w.logins)
	}
}

// What is wrong is said before the user has anything to do, and so it is if nobody may log in.
func TestOpenFails(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	refused := errors.New("nobody is here")
	for name, c := range map[string]struct {
		change func(*cliauth.Config)
		want   error
	}{
		"no provider": {func(c *cliauth.Config) { c.Provider = nil }, transport.ErrMisconfigured},
		"no endpoint": {func(c *cliauth.Config) { c.Endpoint = nil }, transport.ErrMisconfigured},
		"no name":     {func(c *cliauth.Config) { c.Cache = nil }, transport.ErrMisconfigured},
		"no client":   {func(c *cliauth.Config) { c.Endpoint.ClientID, c.Cache, c.App = "", nil, "app" }, transport.ErrMisconfigured},
		"no API":      {func(c *cliauth.Config) { c.Provider.Origins = nil }, transport.ErrMisconfigured},
		"refused": {func(c *cliauth.Config) {
			c.Login = func(context.Context, login.Config) (*tokencache.Record, error) { return nil, refused }
		}, refused},
	} {
		cfg := w.config()
		c.change(&cfg)
		if client, err := cliauth.Open(t.Context(), cfg); !errors.Is(err, c.want) || client != nil {
			t.Errorf("%s: %v, error %v", name, client, err)
		}
	}
	if w.logins != 0 {
		t.Errorf("%d logins", w.logins)
	}
}
