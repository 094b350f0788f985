package mcpauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// A Config says who the program is, and where its logins are kept.
type Config struct {
	// Cache keeps the logins. Required.
	Cache *tokencache.Cache

	// Client says who the program is at authorization servers. With a Name, it registers
	// itself where nobody has, and that is kept in Cache if it has no other. Required.
	Client provider.Client

	// Discovery says how the metadata of servers is found. Nothing more is required.
	Discovery provider.Discovery

	// Account says whose login it is, in a program of several users.
	Account string

	// Login logs the user in. It may change the Config, and is the place to refuse: the
	// Config's Provider and Endpoint say where the login would be, and for which scopes, and
	// its Cause what else the server demands. Default: login.Loopback, in the user's browser;
	// login.Auto is for programs that may also run where there is none, as over SSH.
	Login func(context.Context, login.Config) (*tokencache.Record, error)
}

// A Handler is the auth.OAuthHandler of one MCP server: give each server its own, because the SDK
// does not say where it sends a token. Its methods are safe for concurrent use.
type Handler struct {
	cfg Config

	now atomic.Pointer[entry] // nil: the server has not said yet whose tokens it takes

	turn    chan struct{} // held by one Authorize at a time, and guards what follows
	once    sync.Once     // of Close
	root    string        // scheme and host of the server, once it is known
	refused refusal       // the last
}

// An entry is the login that is in use.
type entry struct {
	key    tokencache.Key
	source *transport.Source
	asked  []string // scopes of the last login that was made here; belongs to who has the turn
}

var _ auth.OAuthHandler = (*Handler)(nil)

// New returns a Handler. It does nothing yet: the first request goes without a token, and the
// server's answer says whose it takes.
func New(cfg Config) (*Handler, error) {
	if cfg.Cache == nil {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "config", Field: "Config.Cache", Remedy: "set it"}
	}
	if c := cfg.Client; len(c.Registered) == 0 && c.DocumentURL == "" && c.Name == "" {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "config", Field: "Config.Client", Remedy: "set its Name, or where the program is registered"}
	}
	if cfg.Client.Cache == nil {
		cfg.Client.Cache = cfg.Cache
	}
	if cfg.Login == nil {
		cfg.Login = login.Loopback
	}
	return &Handler{cfg: cfg, turn: make(chan struct{}, 1)}, nil
}

// TokenSource returns the token for the next request, or nil if a login is required: then the
// server refuses the request, and Authorize is called.
func (h *Handler) TokenSource(ctx context.Context) (oauth2.TokenSource, error) {
	for {
		e := h.now.Load()
		if e == nil {
			return nil, nil
		}
		token, err := e.source.Token(ctx)
		switch {
		case err == nil:
			return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: string(token.AccessToken), TokenType: token.Type, Expiry: token.Expiry}), nil
		case h.now.Load() != e: // It was closed meanwhile.
		case errors.Is(err, transport.ErrLoginRequired), isForgotten(err):
			return nil, nil
		default:
			return nil, err
		}
	}
}

// Authorize makes sure that there is a token that the server accepts, after it has refused a
// request: by a refresh, if that is all it takes, or by a login, for more scopes or as the server
// otherwise demands. A program that an authorization server has forgotten registers itself anew.
// The user who refuses a login is not asked for it again within two seconds, in which the SDK tries
// another request: that gets the same error.
// Errors are *transport.Error, which wraps login.RefusedRepeated if a login has just been made for
// the same, or a transport.Challenge if the server asks for what no login brings.
func (h *Handler) Authorize(ctx context.Context, req *http.Request, resp *http.Response) error {
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	began := time.Now()
	release, err := h.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := h.isOurs(req.URL); err != nil {
		return err
	}
	if resp.Request != nil && rootOf(resp.Request.URL) != h.root {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Remedy: "use the server's own address",
			Err: errors.New("the request was redirected to another host, which refuses it")}
	}
	challenges := transport.ParseChallenges(resp.Header)
	a, err := h.find(ctx, req.URL.String(), challenges)
	if err != nil {
		return err
	}
	a.began = began
	if demand, ok := demandOf(resp.StatusCode, challenges); ok {
		return a.login(ctx, req, demand)
	}
	if resp.StatusCode == http.StatusForbidden {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Status: resp.StatusCode,
			Remedy: "the MCP server does not say what is missing; ask whoever runs it"}
	}
	err = a.renew(ctx, req, challenges)
	if isForgotten(err) {
		err = a.registerAnew(ctx, err)
	}
	if _, useless := errors.AsType[transport.Challenge](err); !useless && errors.Is(err, transport.ErrLoginRequired) {
		return a.login(ctx, req, err)
	}
	return err
}

// Logout ends the login at the MCP server at address, here and at its authorization server. The
// next request needs another one. A login at an authorization server that the MCP server has left
// stays, and is used again if the MCP server returns there. Errors are those of Source.Logout, or
// there is no way to find out which login it is, such as when the MCP server is down.
func (h *Handler) Logout(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "logout", Remedy: "use the server's address, as for a session"}
	}
	release, err := h.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := h.isOurs(u); err != nil {
		return err
	}
	a, err := h.find(ctx, address, nil)
	if err != nil {
		return err
	}
	return a.source.Logout(ctx)
}

// take waits for the turn.
func (h *Handler) take(ctx context.Context) (release func(), err error) {
	if h.turn == nil {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "config", Remedy: "use a Handler that New has made"}
	}
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn }, nil
	case <-ctx.Done():
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "login", Err: context.Cause(ctx)}
	}
}

// isOurs says whether an address is on the server's host. What another one wants must not change
// which token this one gets.
func (h *Handler) isOurs(u *url.URL) error {
	if h.root == "" {
		h.root = rootOf(u)
	}
	if h.root != rootOf(u) {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Remedy: "make a Handler for each MCP server"}
	}
	return nil
}

func rootOf(u *url.URL) string { return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String() }

// Close waits for a refresh in flight, so that its result is saved. The Handler must not be used
// any more.
func (h *Handler) Close(ctx context.Context) (err error) {
	h.once.Do(func() {
		if e := h.now.Load(); e != nil {
			err = e.source.Close(ctx)
		}
	})
	return err
}
