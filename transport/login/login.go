package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/clock"
	"github.com/stayauth/stayauth/transport/login/internal/browser"
	"github.com/stayauth/stayauth/transport/provider"
)

// A Config says which client logs in at which provider, and how.
type Config struct {
	// Provider has the endpoints for the login. Required.
	Provider *provider.Provider

	// Endpoint is the client's token endpoint, from Provider.Endpoint for instance. The
	// authorization request asks for its Scopes, and for the "resource" (RFC 8707) and
	// "audience" of its Params, if there are any. Required.
	Endpoint *endpoint.Endpoint

	// Cache, if set, is probed before anything else happens: a login that cannot be
	// stored is not worth the user's time.
	Cache *tokencache.Cache

	// AuthParams are further parameters of the authorization request, such as "login_hint",
	// "prompt" or "acr_values". They replace those of Provider. An "audience" or "resource"
	// belongs in the AuthParams of Provider or in Endpoint.Params, so that logins for
	// different ones are kept apart; here belong all the resources of a login for several,
	// see Endpoint.For.
	AuthParams url.Values

	// Cause, if set, is why the user has to log in: an error that wraps ErrLoginRequired, or
	// the transport.Challenge of a 401 or 403 that a login may satisfy (scopes, acr_values,
	// max_age, claims). What it demands is requested, and never less than AuthParams demand:
	// the shorter max_age, and of the acr_values only those that both have. If both have some,
	// and none in common, that is an ErrMisconfigured: a program that is content with several
	// ways to log in lists them all, in the order of its preference. An error that is no cause
	// of a login is returned as it is.
	Cause error

	// Former, if set, is the login that the new one will replace, from tokencache.Cache.Load.
	// Its scopes are requested again. A login of another user is refused; the error wraps
	// RefusedOtherAccount. If Former was made for the same Cause within the last minute, it
	// wraps RefusedRepeated: another login would not help either.
	Former *tokencache.Record

	// RedirectURL is where the provider sends the user's browser back to, for providers at
	// which it must be registered in a certain form: with a fixed port, or with the host
	// localhost, which Microsoft Entra prefers. If it has no port, Loopback chooses a free
	// one. Default: http://127.0.0.1/callback, or a path of the issuer's own below that,
	// see "What protects a login".
	RedirectURL string

	// PAR sends the parameters of the authorization request to the provider directly
	// instead of through the browser (RFC 9126). Default: Provider.RequirePAR.
	PAR bool

	// Timeout is how long the user has to log in. Default: 10 minutes or, in Device, as
	// long as the provider accepts the code.
	Timeout time.Duration

	// Open opens a URL in the user's browser. It must not wait for the browser to end, and
	// must return when ctx is done, which is when the user has logged in. Default: the
	// browser of the desktop, with only those environment variables that it needs.
	Open func(ctx context.Context, url string) error

	// In is where Paste reads what the user pastes. Default: os.Stdin.
	In io.Reader

	// Out is where instructions to the user are written. Default: os.Stderr.
	Out io.Writer

	// OnPrompt, if set, is called with what the user has to do, for programs that have a
	// window and set Out to io.Discard.
	OnPrompt func(Prompt)

	clock *clock.Watch // that a Web remembers; nil: there is nothing to remember
}

// A Prompt is what the user has to do to log in: visit URL and, if there is a
// UserCode, enter it there.
type Prompt struct {
	URL      string
	UserCode string

	// CompleteURL is URL with the UserCode in it, or empty if the provider does not offer
	// that. The program must still show the UserCode, for the user to compare (RFC 8628
	// section 3.3.1).
	CompleteURL string

	Expiry time.Time // zero: unknown
}

// A flow is one attempt to log in.
type flow struct {
	Config
	name        string // the provider, as the user knows it
	fingerprint string // of the cause, if there is one

	mu sync.Mutex // guards Out
}

const loginTimeout = 10 * time.Minute

// outOfTime is the cause of the end of a flow that the user did not finish in time.
type outOfTime struct{}

func (outOfTime) Error() string { return "the login was not completed in time" }
func (outOfTime) Unwrap() error { return context.DeadlineExceeded }

// newFlow checks and completes the configuration, and finds out whether the login could be
// stored and its ID token, if there will be one, be used.
func newFlow(ctx context.Context, cfg Config) (*flow, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	f := &flow{Config: cfg}
	if err := f.answerCause(); err != nil {
		return nil, err
	}
	f.name = cmp.Or(cfg.Provider.Name, "the provider")
	if f.Open == nil {
		f.Open = browser.Open
	}
	if f.In == nil {
		f.In = os.Stdin
	}
	if f.Out == nil {
		f.Out = os.Stderr
	}
	if cfg.Cache != nil {
		key := tokencache.Key{Issuer: cmp.Or(cfg.Endpoint.Issuer, cfg.Endpoint.TokenURL), ClientID: cfg.Endpoint.ClientID}
		if err := cfg.Cache.Preflight(ctx, key, &tokencache.Record{}); err != nil {
			return nil, &transport.Error{Kind: transport.ErrStorage, Op: "login", Err: err}
		}
	}
	var err error
	if f.Endpoint, err = f.Endpoint.Bind(ctx, "", ""); err != nil {
		return nil, err
	}
	if f.clock == nil {
		f.clock = new(clock.Watch)
	}
	if f.openID() {
		if err := f.checkClock(ctx); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// check says which field is wrong, and what to do about it.
func (cfg *Config) check() error {
	switch p, e := cfg.Provider, cfg.Endpoint; {
	case p == nil:
		return misconfigured("Provider", "set it, to a preset or the result of provider.Discover", nil)
	case e == nil:
		return misconfigured("Endpoint", "set it, to Provider.Endpoint(clientID, secret) for instance", nil)
	case p.TokenURL != e.TokenURL:
		return misconfigured("Endpoint", "use the TokenURL of Provider: a code must not be sent to another provider", nil)
	case cfg.Timeout < 0:
		return misconfigured("Timeout", "use a positive duration, or 0 for the default", nil)
	}
	if err := cfg.Endpoint.Check(nil); err != nil && !errors.Is(err, transport.ErrLoginRequired) {
		return err
	}
	for _, name := range protocolParams {
		if cfg.AuthParams.Has(name) || cfg.Provider.AuthParams.Has(name) {
			return misconfigured("AuthParams", "remove "+name+": it has a meaning in the flow itself", nil)
		}
	}
	for _, r := range slices.Concat(cfg.Endpoint.Params["resource"], cfg.AuthParams["resource"]) {
		if u, err := url.Parse(r); err != nil || !u.IsAbs() || strings.Contains(r, "#") { // RFC 8707 section 2
			return misconfigured("AuthParams, Endpoint.Params", "use an absolute URL without fragment as the resource", nil)
		}
	}
	return nil
}

// limit returns a context that ends when the user's time is over.
func (f *flow) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, cmp.Or(f.Timeout, loginTimeout), outOfTime{})
}

// say writes a line to the user.
func (f *flow) say(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(f.Out, format, args...)
}

func (f *flow) prompt(p Prompt) {
	if f.OnPrompt != nil {
		f.OnPrompt(p)
	}
}

// ended returns the error for a flow that ctx has ended.
func ended(ctx context.Context) error {
	return &transport.Error{Kind: transport.ErrLoginRequired, Op: "login", Remedy: "log in again", Err: context.Cause(ctx)}
}

func misconfigured(field, remedy string, cause error) error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Field: "Config." + field, Remedy: remedy, Err: cause}
}
