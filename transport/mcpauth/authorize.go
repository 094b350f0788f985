package mcpauth

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

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
	began    time.Time // when the program wanted it
}

// A question is what the user is asked: to log in where, and for what.
type question struct {
	key                         tokencache.Key
	scopes, acr, maxAge, claims string
}

// A refusal is the answer to a question, and to the same question until then.
type refusal struct {
	question question
	err      error
	until    time.Time
}

// atOnce is how soon after a refusal it is the SDK that comes back, and not a user who has thought
// again: if server/discover fails, the SDK tries initialize, which takes one more answer of a server
// that it has just reached. Nobody is back from the browser and has tried again as fast.
const atOnce = 2 * time.Second

// isFinal reports whether a login that has failed fails again if it is tried at once: the user, or
// the program's own Login, does not want to, or there is something to mend. Somebody else's call
// must not fail because this one has been given up, or because of an outage that may be over.
func isFinal(ctx context.Context, err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return ctx.Err() == nil && (!ok || e.Kind == transport.ErrLoginRequired || e.Kind == transport.ErrMisconfigured)
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

// open puts a new Source in the place of the one in use, which is closed. It reads the cache.
func (a *attempt) open(ctx context.Context) (err error) {
	a.source, err = transport.NewSource(transport.SourceConfig{Cache: a.h.cfg.Cache, Refresher: a.endpoint, Key: a.key})
	if err != nil {
		return err
	}
	e := &entry{key: a.key, source: a.source}
	old := a.h.now.Load()
	if old != nil && old.key == a.key {
		e.asked = old.asked
	}
	a.h.now.Store(e)
	if old != nil {
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

// isForgotten reports whether an authorization server says that it does not know the program.
func isForgotten(err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return ok && e.Code == "invalid_client"
}

// registerAnew makes the program register itself once more at a server that has forgotten it, if
// that was how it became known there. A login of the forgotten program is of no use.
func (a *attempt) registerAnew(ctx context.Context, why error) (err error) {
	if err := a.h.cfg.Client.Forget(ctx, a.provider, a.key.ClientID); err != nil {
		return err
	}
	if a.endpoint, err = a.h.cfg.Client.Endpoint(ctx, a.provider); err != nil {
		return err
	}
	if a.endpoint.ClientID == a.key.ClientID {
		return why
	}
	a.key.ClientID = a.endpoint.ClientID
	if err := a.open(ctx); err != nil {
		return err
	}
	_, err = a.source.Token(ctx)
	return err
}

// maxScope is how many bytes of scopes a server may demand, as in package login: the user's browser
// has to carry them.
const maxScope = 2 << 10

// demandOf returns what the server wants that only a login brings, if there is such a thing.
func demandOf(status int, challenges []transport.Challenge) (transport.Challenge, bool) {
	for _, c := range challenges {
		code, scope := c.Params["error"], c.Params["scope"]
		more := scope != "" && len(scope) <= maxScope
		switch {
		case c.Params["acr_values"] != "", c.Params["max_age"] != "", more && strings.EqualFold(code, "insufficient_scope"):
			return c, true
		case status == http.StatusForbidden && more && code == "": // The SDK's own servers send no code.
			c.Params = maps.Clone(c.Params)
			c.Params["error"] = "insufficient_scope"
			return c, true
		case status == http.StatusForbidden && c.Claims() != "":
			return c, true
		}
	}
	return transport.Challenge{}, false
}

// login logs the user in, in one process at a time: if another one has done so meanwhile, its login
// is used. cause is why: that there is none, or what the server demands. If that was asked for
// already, another login would not help: of scopes this is known here, of the rest in package login.
func (a *attempt) login(ctx context.Context, req *http.Request, cause error) error {
	lock := a.key
	lock.Issuer += "#mcp_login" // It is not the entry of a login, whose lock is for refreshes.
	unlock, err := a.h.cfg.Cache.Lock(ctx, lock)
	if err != nil {
		return &transport.Error{Kind: transport.ErrStorage, Op: "login", Err: err}
	}
	defer unlock()
	if err := a.open(ctx); err != nil {
		return err
	}
	token, err := a.source.Token(ctx)
	if err != nil && !errors.Is(err, transport.ErrLoginRequired) {
		return err
	}
	demand, isDemand := cause.(transport.Challenge)
	former, granted, more := a.stored(ctx), []string(nil), strings.Fields(demand.Params["scope"])
	if former != nil {
		granted = strings.Fields(former.Scope)
	}
	switch asked := a.h.now.Load().asked; {
	case err == nil && !sentWith(req, token) && covers(granted, more):
		return nil
	case strings.EqualFold(demand.Params["error"], "insufficient_scope") && covers(slices.Concat(granted, asked), more):
		return demand
	}
	cfg := login.Config{Provider: a.provider, Cache: a.h.cfg.Cache}
	if uris := a.h.cfg.Client.RedirectURIs; len(uris) > 0 {
		cfg.RedirectURL = uris[0]
		// What one issuer's answers arrive at, another's must not (RFC 9700 section 4.4.2).
		if _, known := a.h.cfg.Client.Registered[a.provider.Issuer]; !known && !a.provider.SendsIss {
			return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Field: "Client.RedirectURIs",
				Remedy: "register the program with this issuer, which does not name itself in its answers, or set none"}
		}
	}
	if cfg.Endpoint, err = a.h.cfg.Client.Endpoint(ctx, a.provider, slices.Concat(granted, more)...); err != nil {
		return err
	}
	asked := slices.Clone(cfg.Endpoint.Scopes)
	q := question{a.key, strings.Join(slices.Compact(slices.Sorted(slices.Values(asked))), " "),
		demand.Params["acr_values"], demand.Params["max_age"], demand.Claims()}
	if e, _ := errors.AsType[*transport.Error](cause); isDemand || e != nil && e.Claims != "" {
		cfg.Cause, cfg.Former = cause, former // Otherwise the user may be another one than before.
		if e != nil {
			q.claims = e.Claims
		}
	}
	// Who has waited for the turn while the user refused is answered too, however long that took.
	if r := a.h.refused; r.question == q && a.began.Before(r.until) {
		return r.err
	}
	rec, err := a.h.cfg.Login(ctx, cfg)
	if err != nil {
		if isFinal(ctx, err) {
			a.h.refused = refusal{q, err, time.Now().Add(atOnce)}
		}
		return err
	}
	a.h.now.Load().asked = asked
	return a.source.Login(ctx, rec)
}

// stored returns the login in the cache, or nil.
func (a *attempt) stored(ctx context.Context) *tokencache.Record {
	rec, _, err := a.h.cfg.Cache.Load(ctx, a.key)
	if err != nil {
		return nil
	}
	return rec
}

func covers(had, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(scope string) bool { return !slices.Contains(had, scope) })
}
