package mcpauth_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/mcpauth"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A world is an MCP server of the official SDK, the authorization server that it trusts, and a
// program that runs as often as the test says, with a user.
type world struct {
	t      *testing.T
	server *httptest.Server
	store  *tokencache.Memory
	logins atomic.Int32 // that the user was asked for
	asked  atomic.Value // the scopes of the last
	visits atomic.Int32 // of the browser
	opened atomic.Value // the address that the browser opened last
	cancel atomic.Bool  // the user does not want to
	stingy atomic.Bool  // a login grants "read" only
	base   http.RoundTripper

	mu     sync.Mutex
	as     *oauthtest.Server
	known  map[string]provider.Credentials // of the program, at all of them so far
	first  string                          // another authorization server, which the metadata names before it
	lacks  func(token string) string       // returns the challenge of a 401, if a good token is not enough
	scopes []string                        // that a call needs
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, store: new(tokencache.Memory), scopes: []string{"read"}}
	w.moveTo(w.registerAt(w.newAS()))
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	type args struct{}
	mcp.AddTool(s, &mcp.Tool{Name: "ping"}, func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "pong"}}}, nil, nil
	})
	inner := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
	mux := http.NewServeMux()
	w.server = httptest.NewServer(mux)
	t.Cleanup(w.server.Close)
	mux.HandleFunc("/.well-known/oauth-protected-resource/mcp", func(rw http.ResponseWriter, r *http.Request) {
		as, _ := w.now()
		w.mu.Lock()
		issuers := []string{as.URL()}
		if w.first != "" {
			issuers = []string{w.first, as.URL()}
		}
		w.mu.Unlock()
		auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
			Resource: w.address(), AuthorizationServers: issuers, ScopesSupported: []string{"read"},
		}).ServeHTTP(rw, r)
	})
	mux.HandleFunc("/mcp", func(rw http.ResponseWriter, r *http.Request) {
		as, scopes := w.now()
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.mu.Lock()
		lacks := w.lacks
		w.mu.Unlock()
		if lacks != nil && as.Valid(token) {
			if challenge := lacks(token); challenge != "" {
				rw.Header().Set("WWW-Authenticate", challenge)
				http.Error(rw, "not enough", http.StatusUnauthorized)
				return
			}
		}
		auth.RequireBearerToken(func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
			if !as.Valid(token) {
				return nil, auth.ErrInvalidToken
			}
			granted := []string{"read"} // of all earlier logins
			if current := as.Current("user"); token == current.AccessToken {
				granted = strings.Fields(current.Scope)
			}
			return &auth.TokenInfo{Scopes: granted, Expiration: time.Now().Add(time.Hour)}, nil
		}, &auth.RequireBearerTokenOptions{Scopes: scopes, ResourceMetadataURL: w.server.URL + "/.well-known/oauth-protected-resource/mcp"})(inner).ServeHTTP(rw, r)
	})
	return w
}

func (w *world) address() string { return w.server.URL + "/mcp" }

func (w *world) newAS() *oauthtest.Server {
	as := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone, Scope: "read write"})
	if err := as.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(as.Close)
	return as
}

func (w *world) moveTo(as *oauthtest.Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.as = as
}

// registerAt makes the program known at an authorization server.
func (w *world) registerAt(as *oauthtest.Server) *oauthtest.Server {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil {
		w.known = map[string]provider.Credentials{}
	}
	w.known[as.URL()] = provider.Credentials{ID: "client"}
	return as
}

func (w *world) needs(scopes ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scopes = scopes
}

func (w *world) now() (*oauthtest.Server, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.as, w.scopes
}

// A program is one run of it.
type program struct {
	w       *world
	handler *mcpauth.Handler
	session *mcp.ClientSession
}

func (w *world) handler() *mcpauth.Handler { return w.handlerOf("") }

func (w *world) cache() *tokencache.Cache {
	w.t.Helper()
	cache, err := tokencache.New(w.store, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return cache
}

func (w *world) handlerOf(account string) *mcpauth.Handler {
	w.t.Helper()
	w.mu.Lock()
	known := maps.Clone(w.known)
	w.mu.Unlock()
	return w.newHandler(account, provider.Client{Registered: known})
}

func (w *world) newHandler(account string, client provider.Client) *mcpauth.Handler {
	w.t.Helper()
	h, err := mcpauth.New(mcpauth.Config{
		Cache: w.cache(), Account: account, Client: client, Discovery: provider.Discovery{Base: w.base},
		Login: func(ctx context.Context, cfg login.Config) (*tokencache.Record, error) {
			w.logins.Add(1)
			w.asked.Store(strings.Join(cfg.Endpoint.Scopes, " "))
			if w.cancel.Load() {
				return nil, &transport.Error{Kind: transport.ErrLoginRequired, Op: "login", Code: "access_denied"}
			}
			if cfg.Endpoint.Params.Get("resource") != w.address() {
				w.t.Errorf("a login for %v", cfg.Endpoint.Params)
			}
			if w.stingy.Load() {
				cfg.Cause, cfg.Former = nil, nil
				cfg.Endpoint = cfg.Provider.Endpoint("client", "", "read")
				cfg.Endpoint.Scopes = []string{"read"}
			}
			cfg.Out = io.Discard
			cfg.Open = func(_ context.Context, url string) error {
				w.opened.Store(url)
				w.visits.Add(1)
				go func() {
					if resp, err := http.Get(url); err == nil {
						resp.Body.Close()
					}
				}()
				return nil
			}
			return login.Loopback(ctx, cfg)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (w *world) start() (*program, error) { return w.startWith(w.handler()) }

func (w *world) startWith(h *mcpauth.Handler) (*program, error) {
	return w.startWithin(w.t.Context(), h)
}

func (w *world) startWithin(ctx context.Context, h *mcpauth.Handler) (*program, error) {
	session, err := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil).Connect(ctx,
		&mcp.StreamableClientTransport{Endpoint: w.address(), HTTPClient: &http.Client{Transport: w.base}, OAuthHandler: h, DisableStandaloneSSE: true, MaxRetries: -1}, nil)
	return &program{w, h, session}, err
}

func (p *program) call() error {
	_, err := p.session.CallTool(p.w.t.Context(), &mcp.CallToolParams{Name: "ping"})
	return err
}

func (p *program) end() {
	p.w.t.Helper()
	if p.session != nil {
		p.session.Close()
	}
	if err := p.handler.Close(context.Background()); err != nil {
		p.w.t.Error(err)
	}
}

func (w *world) mustStart() *program {
	w.t.Helper()
	p, err := w.start()
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (p *program) mustCall() {
	p.w.t.Helper()
	if err := p.call(); err != nil {
		p.w.t.Fatal(err)
	}
}

func (w *world) wantLogins(want int32) {
	w.t.Helper()
	if got := w.logins.Load(); got != want {
		w.t.Fatalf("the user was asked to log in %d times, want %d", got, want)
	}
}

// expire ends the access token.
func (w *world) expire() {
	w.t.Helper()
	cache := w.cache()
	for rec, err := range cache.List(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		_, v, err := cache.Load(w.t.Context(), rec.Key)
		if err != nil {
			w.t.Fatal(err)
		}
		rec.ObtainedAt, rec.Expiry = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
		if _, err := cache.Save(w.t.Context(), rec.Key, rec, v); err != nil {
			w.t.Fatal(err)
		}
	}
}

// One login serves all agents that start at the same time, and all later ones.
func TestOneLoginForAllAgents(t *testing.T) {
	w := newWorld(t)
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			p, err := w.start()
			if err == nil {
				err = p.call()
			}
			if err != nil {
				t.Error(err)
			}
			p.end()
		})
	}
	running.Wait()
	w.wantLogins(1)

	w.expire()
	p := w.mustStart()
	p.mustCall()
	p.end()
	w.wantLogins(1)
	as, _ := w.now()
	if c := as.Counts(); c.Rotations != 1 {
		t.Errorf("the authorization server counted %+v", c)
	}

	w.expire()
	as.RevokeFamily(as.Current("user").RefreshToken) // The user has removed the program.
	p = w.mustStart()
	p.mustCall()
	p.end()
	w.wantLogins(2)
	w.mustStart().end()
	w.wantLogins(2)
	if c := as.Counts(); c.Reuses != 0 {
		t.Errorf("the authorization server counted %+v", c)
	}
}

// A login that ends while the program runs is replaced when the server is next asked.
func TestLoginEndsWhileRunning(t *testing.T) {
	w := newWorld(t)
	as := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone, Scope: "read write", AccessTTL: time.Second})
	if err := as.Start(); err != nil {
		t.Fatal(err)
	}
	defer as.Close()
	w.moveTo(w.registerAt(as))
	p := w.mustStart()
	defer p.end()
	as.RevokeFamily(as.Current("user").RefreshToken)
	for deadline := time.Now().Add(time.Minute); w.logins.Load() < 2 && time.Now().Before(deadline); {
		p.call() // It fails until the token has expired: a new one is not replaced.
		time.Sleep(20 * time.Millisecond)
	}
	if w.logins.Load() < 2 {
		t.Error("the user was not asked to log in again")
	}
}

// The user ends a login: that it is used no more, here or by whoever has its tokens, and that the
// next request asks for another one, holds after a restart and while another agent runs.
func TestLogout(t *testing.T) {
	w := newWorld(t)
	running := w.mustStart()
	running.mustCall()
	as, _ := w.now()
	token := as.Current("user").AccessToken
	h := w.handler() // of a program that ends the login
	if err := h.Logout(t.Context(), w.address()); err != nil {
		t.Error(err)
	}
	if err := h.Logout(t.Context(), "https://other.test/mcp"); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("at another server: %v", err)
	}
	h.Close(t.Context())
	if c := as.Counts(); as.Valid(token) || c.Revocations == 0 {
		t.Errorf("the authorization server counted %+v", c)
	}
	w.wantLogins(1)
	p := w.mustStart()
	p.mustCall()
	p.end()
	w.wantLogins(2)
	running.mustCall()
	running.end()
	w.wantLogins(2)
	if err := new(mcpauth.Handler).Logout(t.Context(), w.address()); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("a Handler that New has not made: %v", err)
	}
}

// The login of one user is not used for another.
func TestAccounts(t *testing.T) {
	w := newWorld(t)
	for want, account := range []string{"ann", "bob", "ann"} {
		p, err := w.startWith(w.handlerOf(account))
		if err != nil {
			t.Fatal(err)
		}
		p.mustCall()
		p.end()
		w.wantLogins(int32(min(want+1, 2)))
	}
}

// Of several authorization servers, the one at which the program is registered is asked.
func TestRegisteredServerIsPreferred(t *testing.T) {
	w := newWorld(t)
	stranger := w.newAS()
	w.mu.Lock()
	w.first = stranger.URL()
	w.mu.Unlock()
	p := w.mustStart()
	p.mustCall()
	p.end()
	if c := stranger.Counts(); c.TokenRequests != 0 {
		t.Errorf("the other server counted %+v", c)
	}
}

// C53, C107: a server that moves to another authorization server needs a new login, and that server
// gets nothing of the old one, whether the program runs meanwhile or starts again.
func TestServerMoves(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		w := newWorld(t)
		other := w.registerAt(w.newAS())
		p := w.mustStart()
		again := func() {
			t.Helper()
			if restarts {
				p.end()
				p = w.mustStart()
			}
			p.mustCall()
		}
		p.mustCall()
		old, _ := w.now()
		sent, before := old.Counts(), old.Secrets()

		w.moveTo(other)
		again()
		w.wantLogins(2)
		if c := other.Counts(); c.TokenRequests != 1 || c.InvalidGrants != 0 || c.Revocations != 0 {
			t.Errorf("the new authorization server counted %+v", c)
		}
		for _, secret := range other.Secrets() {
			if slices.Contains(before, secret) {
				t.Error("the new authorization server has a secret of the old one")
			}
		}
		if c := old.Counts(); c.TokenRequests != sent.TokenRequests {
			t.Errorf("the old authorization server was sent something: %+v", c)
		}
		w.moveTo(old)
		again()
		w.wantLogins(2)
		p.end()
	}
}

// A server that is not known to the program's maker is not logged in to with the client of another.
func TestUnknownAuthorizationServer(t *testing.T) {
	w := newWorld(t)
	h := w.handler() // knows the first
	defer h.Close(t.Context())
	w.moveTo(w.newAS())
	_, err := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: w.address(), OAuthHandler: h, MaxRetries: -1}, nil)
	if !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("got %v", err)
	}
	w.wantLogins(0)
}

// One Handler is for one server, and is not led to another.
func TestHandlerIsForOneServer(t *testing.T) {
	w := newWorld(t)
	h := w.handler()
	defer h.Close(t.Context())
	refused := func(address, final string) error {
		req := httptest.NewRequest(http.MethodPost, address, nil)
		resp := &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody, Request: httptest.NewRequest(http.MethodPost, final, nil)}
		return h.Authorize(t.Context(), req, resp)
	}
	if err := refused(w.address(), w.address()); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{refused("https://evil.test/mcp", "https://evil.test/mcp"), refused(w.address(), "https://evil.test/mcp")} {
		if !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("got %v", err)
		}
	}
	w.wantLogins(1)
}
