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
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/clock"
	"github.com/stayauth/stayauth/transport/internal/localpath"
	"github.com/stayauth/stayauth/transport/internal/loopback"
	"github.com/stayauth/stayauth/transport/internal/text"
	"github.com/stayauth/stayauth/transport/provider"
)

// A WebConfig says how the users of a web application connect their accounts at one
// provider.
type WebConfig struct {
	// Provider and Endpoint are those of Config: the provider that is asked, and the scopes
	// that it is asked for. Both are required.
	Provider *provider.Provider
	Endpoint *endpoint.Endpoint

	// Pool receives the logins, each under the account that PoolAccount returns for the
	// application's user. Its Refresher must be Endpoint, and its Cache must be Cache. Both
	// are required.
	Pool  *transport.Pool
	Cache *tokencache.Cache

	// RedirectURL is the public address of Callback, as it is registered at the provider:
	// https, or http on a loopback address for development. Each provider needs one of its
	// own, see "What protects a login". Nothing that a request says changes it. Users must
	// use the application at its host, because their cookies are sent to no other. Required.
	RedirectURL string

	// Keys seal the cookies that hold all that is known about an attempt until its answer
	// arrives. Each is random, has at least 32 bytes, and is the same on all replicas. The
	// first seals, and all of them open. To replace a key, add the new one at the end on all
	// replicas, then move it to the front, and remove the old one after Timeout. Required.
	Keys [][]byte

	// User returns the application's own user who has sent the request, by an identifier
	// that never changes, or "" if nobody is signed in. An error means that it cannot be
	// determined now. User is called when a login begins and when its answer arrives.
	// Required.
	User func(*http.Request) (string, error)

	// Accept, if set, decides whether a login that the provider has granted is stored. It
	// may change Result.Return, for instance to a page that explains what is missing. If it
	// returns an error, the tokens are revoked and the user sees a page: the Failure's error
	// wraps RefusedByApp, or the Refusal that Accept returned, and has the Code and
	// Description of a *transport.Error. Default: only a login of another user of the
	// provider than before is refused (RefusedOtherAccount).
	Accept func(*http.Request, *Result) error

	// Failed, if set, writes the response that says why there is no login, in place of the
	// built-in page. By then the response has headers that allow nothing to be loaded,
	// framed or cached, which Failed may replace.
	Failed func(http.ResponseWriter, *http.Request, Failure)

	// Home is the path that the browser is sent to when a login names no other.
	// Default: "/".
	Home string

	// AuthParams and PAR are those of Config.
	AuthParams url.Values
	PAR        bool

	// Timeout is how long the user has at the provider, an hour at most. Default: 10 minutes.
	Timeout time.Duration

	// Logger receives what OnEvent receives: at level Warn what the operator of the
	// application has to fix, and at Debug what users and attackers do. Default:
	// slog.Default().
	Logger *slog.Logger

	// OnEvent, if set, is called for each event, of the types of this package. Event.Key
	// says whose login it is, and Event.Err why a request was refused. The function may be
	// the same as SourceConfig.OnEvent.
	OnEvent func(context.Context, transport.Event)
}

// A Result is a login that the provider has granted.
type Result struct {
	User, Label string // the application's user, and which of that user's logins it is

	// Record is what will be stored, and Former what it replaces, or nil. AccountOf returns
	// the account at the provider. Record.Extra has the other members of the token
	// endpoint's answer, and the other parameters of the callback with "callback." before
	// their names: those arrived through the user's browser, and the user may have made
	// them up.
	Record, Former *tokencache.Record

	// MissingScopes were asked for and not granted.
	MissingScopes []string

	// Temporary means that there is no refresh token: the login ends with its access token.
	Temporary bool

	// Return is the local path that the browser is sent to next.
	Return string
}

// A Failure is what a page has to tell a user whose account could not be connected, or could
// not be disconnected.
type Failure struct {
	Err    error  // wraps a Refusal, or is a *transport.Error
	Status int    // of the response
	Return string // a local path where the user can start again
}

// Format prints whose logins these are, whatever the verb, and no key.
func (cfg WebConfig) Format(f fmt.State, _ rune) {
	client := ""
	if cfg.Endpoint != nil {
		client = cfg.Endpoint.ClientID
	}
	fmt.Fprintf(f, "WebConfig{ClientID: %q, RedirectURL: %q}", client, cfg.RedirectURL)
}

// A Web lets the users of a web application connect their accounts at a provider. The server
// keeps nothing between the start of a login and its answer, so any replica can take the
// answer, before or after a restart. Make one Web for each provider.
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
	origin   string // of the application,
	host     string // its host, and
	callback string // the path, of RedirectURL

	clock  clock.Watch // what all attempts know
	warned sync.Once   // of a wrong clock
}

// Format prints whose logins these are, whatever the verb, and no key.
func (web *Web) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "Web{ClientID: %q, RedirectURL: %q}", web.cfg.Endpoint.ClientID, web.cfg.RedirectURL)
}

// NewWeb returns a Web. It does no I/O.
func NewWeb(cfg WebConfig) (*Web, error) {
	web := &Web{cfg: cfg, config: Config{Provider: cfg.Provider, Endpoint: cfg.Endpoint, Cache: cfg.Cache,
		AuthParams: cfg.AuthParams, PAR: cfg.PAR, Timeout: cfg.Timeout}}
	web.config.clock = &web.clock
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
	if !localpath.Is(cfg.Home) {
		return misconfigured("Home", "use a path of this site, such as /accounts", nil)
	}
	web.callback = cmp.Or(u.EscapedPath(), "/")
	web.key = cfg.Endpoint.Identity().Key
	web.config.Timeout = cfg.Timeout
	web.origin, web.host = originOf(u), u.Hostname()
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

// atHome returns an error if the page is on another host than Callback, localhost instead of
// 127.0.0.1 for instance: the browser would not send the cookie there.
func (web *Web) atHome(r *http.Request) error {
	page, err := url.Parse(r.Header.Get("Origin"))
	if err != nil || page.Host == "" || strings.EqualFold(page.Hostname(), web.host) {
		return nil
	}
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Field: "WebConfig.RedirectURL",
		Err:    fmt.Errorf("the login begins at %s and would end at %s, where the browser does not send its cookie", text.Clean(page.Hostname()), web.host),
		Remedy: "use one host for both, and redirect browsers that come to another"}
}

// PoolAccount returns the account of a user's login in the Pool, for transport.WithAccount
// and Pool.Source. label distinguishes several logins of one user with the provider; it is
// empty if there is only one.
func PoolAccount(user, label string) string {
	key := tokencache.Key{Account: user}
	if label != "" {
		key = key.WithLabel(label)
	}
	return key.Account
}

// maxName bounds the identifiers of users and the labels, in bytes.
const maxName = 256

// user returns who has sent the request. If that is nobody, the error is a refusal.
func (web *Web) user(r *http.Request) (string, error) {
	user, err := web.cfg.User(r)
	if err != nil {
		return "", &transport.Error{Kind: transport.ErrUnavailable, Op: "login", Err: fmt.Errorf("%w: %w", RefusedUnknownUser, err), Remedy: "try again"}
	}
	if err := checkUser(user); err != nil {
		return "", err
	}
	return user, nil
}

// checkUser returns what is wrong with the identifier of a user.
func checkUser(user string) error {
	switch {
	case user == "":
		return refused(RefusedNoUser, "sign in to the application first")
	case len(user) > maxName || strings.Contains(user, "\x00"):
		return misconfigured("User", "return an identifier of at most 256 bytes, without a zero byte", nil)
	}
	return nil
}

// name returns the provider's name as the user knows it.
func (web *Web) name() string { return cmp.Or(web.cfg.Provider.Name, "the provider") }
