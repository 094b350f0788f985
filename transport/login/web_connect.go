package login

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/internal/localpath"
)

// A Start says why a user is sent to the provider, and with what. The zero value is a plain
// login.
type Start struct {
	// Label says which of the user's logins with the provider this is, if there can be
	// several: see PoolAccount.
	Label string

	// Return is the local path that the browser comes back to, of at most 256 bytes.
	// Default: WebConfig.Home.
	Return string

	// Scopes are requested in addition to those of the Endpoint and of the present login,
	// which stays as it is if the user does not consent.
	Scopes []string

	// AuthParams are further parameters of the authorization request, such as "prompt" or
	// "login_hint". They replace those of WebConfig.
	AuthParams url.Values

	// Cause is why an API could not be called: an error that wraps ErrLoginRequired, or the
	// transport.Challenge of a 401 or 403 that a login may satisfy (scopes, acr_values,
	// max_age, claims). What it demands is requested, see login.Config. Begin returns any
	// other error as it is. If a login has just satisfied the same demand, the error wraps RefusedRepeated:
	// without that, the browser would go round in circles.
	Cause error
}

// Connect begins a login for the user who is signed in, and redirects the browser to the
// provider. It accepts a POST from a page of this site, and a GET from a link on one or from
// the address bar if the browser says so (Sec-Fetch-Site): one of curl is refused. The
// parameters "return" and "label" are those of Start. The browser chooses them: a path of another
// site becomes WebConfig.Home, and Accept can refuse a label.
func (web *Web) Connect(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if !readForm(w, r) {
		return
	}
	if err := web.fromHere(r); err != nil {
		web.fail(w, r, "", "", failureOf(err, web.cfg.Home))
		return
	}
	s := Start{Label: r.FormValue("label"), Return: web.localOr(r.FormValue("return"))}
	if err := web.Begin(w, r, s); err != nil {
		web.show(w, r, failureOf(err, s.Return))
	}
}

// maxForm bounds the forms of Connect and Disconnect, in bytes.
const maxForm = 64 << 10

// readForm reads the parameters in the query and the form, or responds with an error. Of a form
// that cannot be read whole nothing counts: what is missing may be the label, and without it
// another login is meant.
func readForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseForm()
	if err == nil {
		err = r.ParseMultipartForm(maxForm)
	}
	if errors.Is(err, http.ErrNotMultipart) {
		err = nil
		if n, _ := io.ReadFull(r.Body, make([]byte, 1)); n > 0 {
			err = errors.New("the body is no form")
		}
	}
	if err == nil && !isLabel(r.FormValue("label")) {
		err = errors.New("no login has such a label")
	}
	if err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
	}
	return err == nil
}

// isLabel reports whether a login can have the label.
func isLabel(label string) bool {
	return len(label) <= maxName && !strings.Contains(label, "\x00") && utf8.ValidString(label)
}

// fromHere refuses what another site has made the browser send. It does what
// http.CrossOriginProtection does, without looking at Host, which a proxy may change. A GET
// counts only if the browser says where it comes from, because otherwise it may come from
// anywhere. A form works in every browser.
func (web *Web) fromHere(r *http.Request) error {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	here := site == "same-origin" || site == "none"
	if r.Method == http.MethodGet && here || r.Method == http.MethodPost && (here || site == "" && (origin == "" || origin == web.origin)) {
		return nil
	}
	return refused(RefusedCrossSite, "begin with a POST from a page of this site")
}

// inBackground reports whether the response would not be shown as a page of its own: the
// request comes from a script or a frame, or from the browser before the user asked for it.
func inBackground(r *http.Request) bool {
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	return mode != "" && mode != "navigate" || dest != "" && dest != "document" || speculative(r)
}

// speculative reports whether the browser sends the request before the user has asked for it.
func speculative(r *http.Request) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		if v := strings.ToLower(r.Header.Get(name)); strings.Contains(v, "prefetch") || strings.Contains(v, "prerender") || strings.Contains(v, "preview") {
			return true
		}
	}
	return false
}

// Begin is Connect for a program that decides for itself that the user wants to go to the
// provider: because of a button of its own, or because only a login helps. It responds with
// a redirect. If it returns an error, it has not responded and nothing has begun.
func (web *Web) Begin(w http.ResponseWriter, r *http.Request, s Start) error {
	var why cause
	if s.Cause != nil {
		var ok bool
		if why, ok = causeOf(s.Cause); !ok {
			return s.Cause
		}
	}
	user, err := web.begin(w, r, &s, why)
	if err != nil {
		web.emit(r.Context(), EventRefused, user, s.Label, err)
		return err
	}
	web.emit(r.Context(), EventStarted, user, s.Label, nil)
	return nil
}

func (web *Web) begin(w http.ResponseWriter, r *http.Request, s *Start, why cause) (user string, err error) {
	if inBackground(r) {
		return "", refused(RefusedBackground, "open the page itself; a script cannot log in")
	}
	if user, err = web.user(r); err != nil {
		return "", err
	}
	if err = web.atHome(r); err != nil {
		return user, err
	}
	if s.Return == "" {
		s.Return = web.cfg.Home
	}
	switch {
	case !isLabel(s.Label):
		return user, startError("Label", "use at most 256 bytes of UTF-8, and no zero byte")
	case !localpath.Is(s.Return):
		return user, startError("Return", "use a path of this site, such as /accounts, of at most 256 bytes")
	case s.AuthParams.Has("resource") || s.AuthParams.Has("audience"):
		return user, startError("AuthParams", "set resource and audience in those of Endpoint: they are part of the name of the login")
	}
	fingerprint := ""
	if s.Cause != nil {
		fingerprint = why.fingerprint(user, s.Label)
		if web.repeats(r, fingerprint, why) {
			return user, repeated()
		}
	}
	ctx := r.Context()
	former, err := web.stored(ctx, user, s.Label)
	if err != nil {
		return user, err
	}
	a := &attempt{Label: s.Label, Return: s.Return, Scopes: more(web.config.Endpoint.Scopes, append(why.scopes, s.Scopes...)), Cause: fingerprint}
	a.Keep = len(a.Scopes) > 0 || s.Cause != nil
	cfg := web.scoped(a, former)
	const field = "Start.AuthParams"
	demanded, err := why.besides(field, web.cfg.Provider.AuthParams, web.cfg.AuthParams, s.AuthParams)
	if err == nil {
		cfg.AuthParams, err = withParams(field, web.cfg.AuthParams, s.AuthParams, demanded)
	}
	if err != nil {
		return user, err
	}
	flow, err := newFlow(ctx, cfg)
	if err != nil {
		return user, err
	}
	if !flow.openID() {
		web.warnOfClock(ctx, flow)
	}
	rq := flow.draw(web.cfg.RedirectURL)
	a.State, a.Verifier, a.User, a.End = rq.state, rq.verifier, userHash(rq.state, user), time.Now().Add(web.cfg.Timeout).Unix()
	a.Key = dpop.Compact(flow.Endpoint.Proof())
	cookie, err := web.cookies.of(attemptID(a.State), a)
	if err != nil {
		return user, &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Field: "Start", Err: err,
			Remedy: "use a shorter return address, a shorter label or fewer scopes"}
	}
	if err := rq.address(ctx); err != nil {
		return user, err
	}
	http.SetCookie(w, cookie)
	web.cookies.makeRoom(w, r)
	redirect(w, rq.url)
	return user, nil
}

func startError(field, remedy string) error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Field: "Start." + field, Remedy: remedy}
}

// more returns the scopes that are in wanted and not in have.
func more(have, wanted []string) []string {
	var rest []string
	for _, s := range wanted {
		if s != "" && !slices.Contains(have, s) && !slices.Contains(rest, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

// scoped returns the configuration with the scopes that the attempt asks for.
func (web *Web) scoped(a *attempt, former *tokencache.Record) Config {
	cfg := web.config
	if !a.Keep {
		return cfg
	}
	e := *cfg.Endpoint // Its Identity was asked for, so what copies have in common is there.
	e.Scopes = append(slices.Clone(e.Scopes), a.Scopes...)
	if former != nil {
		e.Scopes = append(e.Scopes, more(e.Scopes, strings.Fields(former.Scope))...)
	}
	cfg.Endpoint = &e
	return cfg
}

// repeats reports whether a login has just satisfied the cause. Its cookie tells.
func (web *Web) repeats(r *http.Request, fingerprint string, c cause) bool {
	return slices.ContainsFunc(web.cookies.all(r), func(a *attempt) bool {
		return a.Cause == fingerprint && a.Outcome != nil && a.Outcome.connected() && time.Since(time.Unix(a.End, 0).Add(-web.cfg.Timeout)) < c.soon()
	})
}

// stored returns the login that a new one would replace, or nil.
func (web *Web) stored(ctx context.Context, user, label string) (*tokencache.Record, error) {
	status, err := web.cfg.Pool.Source(PoolAccount(user, label)).Status(ctx)
	if err != nil {
		return nil, err
	}
	if k := status.Key; k.Issuer != web.key.Issuer || k.ClientID != web.key.ClientID {
		return nil, misconfigured("Pool", "make it with Endpoint as its Refresher: it keeps logins of another issuer or client", nil)
	}
	if status.State == transport.StateEmpty {
		return nil, nil
	}
	rec, _, err := web.cfg.Cache.Load(ctx, status.Key)
	if errors.Is(err, tokencache.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, &transport.Error{Kind: transport.ErrStorage, Op: "login", Err: err}
	}
	return rec, nil
}

// localOr returns path, or Home if path could lead a browser to another site.
func (web *Web) localOr(path string) string {
	if !localpath.Is(path) {
		return web.cfg.Home
	}
	return path
}
