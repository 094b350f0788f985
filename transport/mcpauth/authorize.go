package mcpauth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// An attempt is one Authorize: which login the server wants, according to what it says now.
type attempt struct {
	h        *Handler
	provider *provider.Provider
	endpoint *endpoint.Endpoint
	key      tokencache.Key
	source   *transport.Source
}

// find asks the server whose tokens it takes. That is asked each time, because it may have moved;
// the login is found by the answer, so that no other server is sent anything of it.
func (h *Handler) find(ctx context.Context, address string, challenges []transport.Challenge) (*attempt, error) {
	r, err := h.cfg.Discovery.Resource(ctx, address, challenges...)
	if err != nil {
		return nil, err
	}
	issuer := r.Issuers[0]
	for _, one := range slices.Backward(r.Issuers) {
		if _, ok := h.cfg.Client.Registered[one]; ok {
			issuer = one // The first at which somebody has registered the program.
		}
	}
	a := &attempt{h: h}
	if a.provider, err = r.Provider(ctx, issuer); err != nil {
		return nil, err
	}
	if a.endpoint, err = h.cfg.Client.Endpoint(ctx, a.provider); err != nil {
		return nil, err
	}
	a.key = a.endpoint.Identity().Key
	a.key.Account = h.cfg.Account
	if e := h.now.Load(); e != nil && e.key == a.key {
		a.source = e.source
		return a, nil
	}
	return a, a.open(ctx)
}

// open puts a new Source in the place of the one in use, which is closed.
func (a *attempt) open(ctx context.Context) (err error) {
	a.source, err = transport.NewSource(transport.SourceConfig{Cache: a.h.cfg.Cache, Refresher: a.endpoint, Key: a.key})
	if err != nil {
		return err
	}
	if old := a.h.now.Swap(&entry{key: a.key, source: a.source}); old != nil {
		return old.source.Close(ctx)
	}
	return nil
}

// renew makes sure that the token is another one than that of the request, if it had one.
func (a *attempt) renew(ctx context.Context, req *http.Request, challenges []transport.Challenge) error {
	token, err := a.source.Token(ctx)
	if err != nil {
		return err
	}
	if sentWith(req, token) {
		_, err = a.source.Reject(ctx, token, challenges...)
	}
	return err
}

// sentWith reports whether a request had that token.
func sentWith(req *http.Request, token transport.Token) bool {
	_, sent, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	return sent == string(token.AccessToken)
}

// stepUp asks the user for what the server misses: the scopes of its challenge, together with those
// that were granted before. If they were asked for already, another login would not help.
func (a *attempt) stepUp(ctx context.Context, req *http.Request, challenges []transport.Challenge) error {
	for _, c := range challenges {
		code := strings.ToLower(c.Params["error"])
		wanted := strings.Fields(c.Params["scope"])
		if len(wanted) == 0 || code != "insufficient_scope" && code != "" { // The SDK's own servers send no code.
			continue
		}
		if renewed, err := a.hasRenewed(ctx, req); renewed || err != nil {
			return err
		}
		granted, _ := a.stored(ctx)
		asked := a.h.now.Load().asked
		isNew := func(s string) bool { return !slices.Contains(granted, s) && !slices.Contains(asked, s) }
		if !slices.ContainsFunc(wanted, isNew) {
			return c
		}
		return a.login(ctx, wanted)
	}
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Status: http.StatusForbidden,
		Remedy: "the MCP server does not say what is missing; ask whoever runs it"}
}

// hasRenewed reports whether there is another token by now than that of the request: another call
// or another process has logged in, or refreshed.
func (a *attempt) hasRenewed(ctx context.Context, req *http.Request) (bool, error) {
	token, err := a.source.Token(ctx)
	if err == nil && sentWith(req, token) {
		if rec, _, lerr := a.h.cfg.Cache.Load(ctx, a.key); lerr != nil || rec.AccessToken == token.AccessToken {
			return false, nil
		}
		if err = a.open(ctx); err == nil { // It reads the cache, which has a later one.
			token, err = a.source.Token(ctx)
		}
	}
	if errors.Is(err, transport.ErrLoginRequired) {
		return false, nil
	}
	return err == nil && !sentWith(req, token), err
}

// login logs the user in, in one process at a time: if another one has done so meanwhile, its login
// is used. more are scopes beyond those of earlier logins.
func (a *attempt) login(ctx context.Context, more []string) error {
	lock := a.key
	lock.Issuer += "#mcp_login" // It is not the entry of a login, whose lock is for refreshes.
	_, before := a.stored(ctx)
	unlock, err := a.h.cfg.Cache.Lock(ctx, lock)
	if err != nil {
		return &transport.Error{Kind: transport.ErrStorage, Op: "login", Err: err}
	}
	defer unlock()
	granted, now := a.stored(ctx)
	if now != before && !slices.ContainsFunc(more, func(s string) bool { return !slices.Contains(granted, s) }) {
		if err := a.open(ctx); err != nil {
			return err
		}
		if _, err := a.source.Token(ctx); !errors.Is(err, transport.ErrLoginRequired) {
			return err
		}
	}
	e, err := a.h.cfg.Client.Endpoint(ctx, a.provider, slices.Concat(granted, more)...)
	if err != nil {
		return err
	}
	asked := slices.Clone(e.Scopes)
	rec, err := a.h.cfg.Login(ctx, login.Config{Provider: a.provider, Endpoint: e, Cache: a.h.cfg.Cache})
	if err != nil {
		return err
	}
	a.h.now.Load().asked = asked
	return a.source.Login(ctx, rec)
}

// stored returns the scopes of the stored login, and its LoginID.
func (a *attempt) stored(ctx context.Context) (granted []string, id string) {
	rec, _, err := a.h.cfg.Cache.Load(ctx, a.key)
	if err != nil {
		return nil, ""
	}
	return strings.Fields(rec.Scope), rec.LoginID
}
