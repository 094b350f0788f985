package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/loopback"
	"github.com/stayauth/stayauth/transport/provider"
)

// A WebConfig says how the users of a web application connect their accounts at one
// provider.
type WebConfig struct {
	// Provider and Endpoint are those of Config: who is asked, and for which scopes.
	// Required.
	Provider *provider.Provider
	Endpoint *endpoint.Endpoint

	// Pool is where the logins go. Its Refresher is Endpoint, and its Cache is Cache. The
	// account of a login is PoolAccount of the application's user. Both are required.
	Pool  *transport.Pool
	Cache *tokencache.Cache

	// RedirectURL is the public address of Callback, as it is registered at the provider:
	// https, or http on a loopback address for development. Each provider needs one of its
	// own, see "What protects a login". It is never made of what a request says. Required.
	RedirectURL string

	// Keys seal the cookies, in which all that is known of an attempt is kept until its
	// answer comes: random, of 32 bytes or more each, and the same on all replicas. The
	// first seals, and every one opens. A new key is first put behind the old one on all
	// replicas, then in front of it, and the old one goes after Timeout. Required.
	Keys [][]byte

	// User returns who of the application's users has sent the request, by what never
	// changes, and "" if nobody is signed in. An error says that this cannot be told now.
	// It is asked at the start of a login and when its answer comes. Required.
	User func(*http.Request) (string, error)

	// Accept, if set, decides whether a login that the provider has granted is stored, and
	// may change Result.Return, to a page that explains what is missing for instance. If it
	// returns an error, the tokens are revoked, and the user is shown a page: the error of
	// that Failure wraps a Refusal, RefusedByApp if it is no other, and has the Code and
	// Description of a *transport.Error. Default:
	// everything but another user of the provider than before (RefusedOtherAccount).
	Accept func(*http.Request, *Result) error

	// Failed, if set, answers in the place of the page that says why there is no login. The
	// response has headers by then that let nothing be loaded, framed or kept.
	Failed func(http.ResponseWriter, *http.Request, Failure)

	// Home is the path of the page that the browser is sent to if no other is asked for.
	// Default: "/".
	Home string

	// AuthParams and PAR are those of Config.
	AuthParams url.Values
	PAR        bool

	// Timeout is how long the user has at the provider, an hour at most. Default: 10 minutes.
	Timeout time.Duration

	// Logger receives what OnEvent receives: at level Warn what whoever runs the application
	// has to see to, and at Debug what users and attackers do. Default: slog.Default().
	Logger *slog.Logger

	// OnEvent, if set, is told what happens: the types are those of this package, the Key
	// says whose login it is, and Err why, for EventRefused. It may be the function that
	// SourceConfig.OnEvent is.
	OnEvent func(context.Context, transport.Event)
}

// A Result is a login that the provider has granted.
type Result struct {
	User, Label string // whose it is in the application, and which of that user's

	// Record is what will be stored, and Former what it replaces, or nil. AccountOf says
	// whose account at the provider that is. The answer's other members are in
	// Record.Extra, and the callback's other parameters too, with "callback." before their
	// names: those have come through the user's browser, and may be made up by the user.
	Record, Former *tokencache.Record

	// MissingScopes are those that were asked for and not granted.
	MissingScopes []string

	// Temporary says that there is no refresh token: the login will end with its token.
	Temporary bool

	// Return is the local path that the browser is sent on to.
	Return string
}

// A Failure is what a page has to tell a user who is not, or is still, connected.
type Failure struct {
	Err    error  // wraps a Refusal, or is a *transport.Error
	Status int    // of the response
	Return string // a local path to go on from, where the user can start again
}

// A Web lets users of a web application connect their accounts at a provider. Nothing is
// kept on the server between the start of a login and its answer, so any replica can take
// it, before or after a restart. Make one for each provider.
//
//	mux.HandleFunc("POST /connect", web.Connect)
//	mux.HandleFunc("/callback", web.Callback)
//	mux.HandleFunc("POST /disconnect", web.Disconnect)
//
// A Web is safe for concurrent use.
type Web struct {
	cfg      WebConfig
	config   Config // what is shared with the other ways to log in
	key      tokencache.Key
	cookies  cookies
	origin   string // of the application, and
	callback string // the path, of RedirectURL
}

// NewWeb returns a Web. It does no I/O.
func NewWeb(cfg WebConfig) (*Web, error) {
	web := &Web{cfg: cfg, config: Config{Provider: cfg.Provider, Endpoint: cfg.Endpoint, Cache: cfg.Cache,
		AuthParams: cfg.AuthParams, PAR: cfg.PAR, Timeout: cfg.Timeout}}
	if err := web.check(); err != nil {
		if e, ok := errors.AsType[*transport.Error](err); ok {
			e.Op, e.Field = "config", strings.Replace(e.Field, "Config.", "WebConfig.", 1)
		}
		return nil, err
	}
	return web, nil
}

func (web *Web) check() error {
	if err := web.config.check(); err != nil {
		return err
	}
	if err := web.config.checkAuthURL(); err != nil {
		return err
	}
	cfg := &web.cfg
	switch {
	case cfg.Pool == nil:
		return misconfigured("Pool", "set it, to the transport.Pool that the requests of the users go through", nil)
	case cfg.Cache == nil:
		return misconfigured("Cache", "set it, to the Cache of Pool", nil)
	case cfg.User == nil:
		return misconfigured("User", "set it, to a function that returns who is signed in to the application", nil)
	case cfg.Timeout > time.Hour:
		return misconfigured("Timeout", "use an hour or less", nil)
	}
	u, err := url.Parse(cfg.RedirectURL)
	problem := loopback.Problem(cfg.RedirectURL)
	switch {
	case problem != "":
		return misconfigured("RedirectURL", problem, nil)
	case err != nil || u.RawQuery != "" || u.ForceQuery:
		return misconfigured("RedirectURL", "remove the query: what an attempt needs is in its cookie", nil)
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, loginTimeout)
	cfg.Home = cmp.Or(cfg.Home, "/")
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	if !isLocal(cfg.Home) {
		return misconfigured("Home", "use a path of this site, such as /accounts", nil)
	}
	web.callback = cmp.Or(u.EscapedPath(), "/")
	web.key = cfg.Endpoint.Identity().Key
	web.config.Timeout = cfg.Timeout
	web.origin = originOf(u)
	web.cookies, err = newCookies(cfg.Keys, u.Scheme == "https", cfg.Timeout, web.key.Issuer, web.key.ClientID, cfg.RedirectURL)
	return err
}

// originOf returns the origin of a URL as browsers write it (RFC 6454 section 6.2).
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// PoolAccount returns the account in the Pool of a user's login: for transport.WithAccount
// and Pool.Source. label tells several logins of the user with the provider apart; it is
// empty for the only one.
func PoolAccount(user, label string) string {
	key := tokencache.Key{Account: user}
	if label != "" {
		key = key.WithLabel(label)
	}
	return key.Account
}

// maxName bounds the length in bytes of what users and labels are called.
const maxName = 256

// user returns who has sent the request. If that is nobody, the error is a refusal.
func (web *Web) user(r *http.Request) (string, error) {
	user, err := web.cfg.User(r)
	switch {
	case err != nil:
		return "", &transport.Error{Kind: transport.ErrUnavailable, Op: "login", Err: fmt.Errorf("%w: %w", RefusedUnknownUser, err), Remedy: "try again"}
	case user == "":
		return "", refused(RefusedNoUser, "sign in to the application first")
	case len(user) > maxName || strings.Contains(user, "\x00"):
		return "", misconfigured("User", "return an identifier of at most 256 bytes, without a zero byte", nil)
	}
	return user, nil
}

// name is that of the provider, as the user knows it.
func (web *Web) name() string { return cmp.Or(web.cfg.Provider.Name, "the provider") }
