package transport

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/internal/origin"
)

// A Config says which requests of a client get which token.
type Config struct {
	// Source provides the token, or Pool the tokens of many accounts, one of which the
	// context of each request names. One of the two is required.
	Source *Source
	Pool   *Pool

	// Origins are the scheme, host and port of the APIs that may see the token, such as
	// "https://api.example.com" or "https://*.example.com". Plain http is for loopback
	// addresses only. Requests to anywhere else are passed on without a token, and so is
	// each hop of a redirect. Required.
	Origins []string

	// Base sends the requests. Default: http.DefaultTransport.
	Base http.RoundTripper

	// ReplaceAuthorization replaces the Authorization header of requests that have one
	// already: for clients that always set one of their own, as okta-sdk-golang and
	// slack-go do, and for a reverse proxy, whose clients' header is not for the API.
	// Default: such a request is passed on as it is.
	ReplaceAuthorization bool

	// Rejected, if set, reports whether a response rejects the token, for APIs that do not
	// say so with a 401 but with a 200 and {"ok":false,"error":"token_expired"}, as Slack does
	// (provider.SlackRejects). Then the token is renewed and the request repeated once, as after a 401.
	// Rejected is called for every response to a request with a token, except for such a
	// 401. It must not modify the response, and may read the first 64 KiB of the body,
	// which are not lost to the caller. It may be called by many goroutines at once.
	Rejected func(*http.Response) bool

	// MaxReplayBody is the size in bytes of the largest request body that is kept in memory
	// so that the request can be repeated after a 401, if its length is known and there is
	// no GetBody. A body that can seek is sent again whatever its size. Default: 65536. A
	// negative value keeps none.
	MaxReplayBody int64

	// Settle bounds how long a program that ends after its last response is kept from
	// interrupting a background refresh. No response is held back for it: closing the
	// response's body waits until the refresh is saved, and a request that fails waits
	// before it returns its error, but neither waits longer than until the refresh is as
	// old as Settle. Default: 5 seconds. Nothing waits in a service that runs KeepFresh, or
	// if Settle is negative. A program that sets a negative value must call Source.Flush or
	// Close before it ends, and so must one whose last response is a redirect that its
	// client does not follow: the body of a redirect does not wait.
	Settle time.Duration
}

// A Transport is an http.RoundTripper that attaches the access token of a Source, or of one in
// a Pool, and repeats a request once if the API rejects the token. It is safe for concurrent
// use.
type Transport struct {
	logins        chooser
	origins       []origin.Origin
	base          http.RoundTripper
	replace       bool
	hook          func(*http.Response) bool
	maxReplayBody int64
	settle        time.Duration
}

// New returns a Transport for an http.Client.
func New(cfg Config) (*Transport, error) {
	bad := func(field, remedy string) error {
		return &Error{Kind: ErrMisconfigured, Op: "config", Field: "Config." + field, Remedy: remedy}
	}
	if (cfg.Source == nil) == (cfg.Pool == nil) {
		return nil, bad("Source", "set it to the Source of the login, or else Pool")
	}
	if len(cfg.Origins) == 0 {
		return nil, bad("Origins", "list the APIs that may see the token, like https://api.example.com")
	}
	t := &Transport{logins: cfg.Source, base: cfg.Base, replace: cfg.ReplaceAuthorization, hook: cfg.Rejected, maxReplayBody: cfg.MaxReplayBody, settle: cfg.Settle}
	if cfg.Pool != nil {
		t.logins = cfg.Pool
	}
	for _, s := range cfg.Origins {
		o, remedy := origin.Parse(s)
		if remedy != "" {
			return nil, bad("Origins", remedy)
		}
		t.origins = append(t.origins, o)
	}
	if t.base == nil {
		t.base = http.DefaultTransport
	}
	if t.maxReplayBody == 0 {
		t.maxReplayBody = 64 << 10
	}
	if t.settle == 0 {
		t.settle = 5 * time.Second
	}
	return t, nil
}

// Format prints whose tokens are sent, whatever the verb, and no secret.
func (t *Transport) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "Transport{%v}", t.logins) }

// Source returns the Source whose token a request with ctx gets.
func (t *Transport) Source(ctx context.Context) (*Source, error) { return t.logins.choose(ctx) }

// RoundTrip sends req with a token. If the API rejects the token, with a 401 or an
// invalid_token (RFC 6750 section 3.1), the token is renewed and the request is sent once more,
// provided that its body can be sent again. If anything goes wrong with that, or if there is no
// other token within 5 s or half of the time until req's deadline, the first response is
// returned as it came. If the API demands claims of the next token (Microsoft's continuous
// access evaluation), the refresh asks for them, see Source.Reject. A request that already has
// an Authorization header, that goes to an origin that is not listed, or that names such an
// origin in Host or URL.Opaque is passed on untouched.
//
// Without a token no request is sent; the error is an *Error.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || !t.listed(req) || !t.replace && hasAuthorization(req.Header) {
		return t.passOn(req)
	}
	var snap *snapshot
	src, err := t.logins.choose(req.Context())
	if err == nil {
		snap = src.fresh()
	}
	fresh := snap != nil
	if err == nil && !fresh {
		snap, err = src.token(req.Context(), true)
	}
	if err != nil {
		closeBody(req)
		return nil, err
	}
	var resp *http.Response
	body, err := replayable(req, t.maxReplayBody)
	if body.done != nil {
		defer body.done()
	}
	if err == nil {
		resp, err = t.send(src, req, snap, body.first, body)
	}
	if err == nil && resp != nil {
		if yes, claims := rejected(t.hook, req, resp); yes {
			resp, fresh = t.retry(src, req, body, snap, claims, resp), false
		}
	}
	if err == nil && resp != nil {
		resp.Request = req // Not the copy with the token, which might end up in a log.
	}
	if !fresh {
		t.settlesAfter(src, resp, err)
	}
	return resp, err
}

// rejected is rejects, together with the hook of the program, which knows the API.
func rejected(hook func(*http.Response) bool, req *http.Request, resp *http.Response) (yes bool, demanded string) {
	if yes, demanded = rejects(resp); yes {
		return true, demanded
	}
	if hook == nil || resp.StatusCode == http.StatusSwitchingProtocols { // The body of a 101 is a connection.
		return false, ""
	}
	shown := *resp
	shown.Request = req
	peek := &peekedBody{body: resp.Body}
	shown.Body = peek
	returned := false
	defer func() {
		if !returned && resp.Body != nil {
			resp.Body.Close() // Whoever recovers the hook's panic has no response.
		}
	}()
	yes = hook(&shown)
	returned = true
	if peek.read {
		resp.Body = &keptBody{body: resp.Body, data: peek.data, err: peek.err}
	}
	return yes, ""
}

// passOn sends a request that gets no token. If it is a hop of a redirect, the request before
// it may have started a refresh, and this response may be the last one that the program reads.
func (t *Transport) passOn(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if req.Response != nil {
		if src, none := t.logins.choose(req.Context()); none == nil {
			t.settlesAfter(src, resp, err)
		}
	}
	return resp, err
}

// CloseIdleConnections closes the idle connections of the base transport, if it can do that.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// withToken returns a copy of req with the token and the body, since a RoundTripper must not
// modify its request (net/http.RoundTripper). The copy owns everything that a base transport
// might change, such as the header value, which some redact before they log.
func (t *Transport) withToken(req *http.Request, snap *snapshot, body io.ReadCloser) *http.Request {
	r := &struct { // one allocation
		http.Request
		authorization [1]string
	}{*req, snap.header}
	if r.Header = maps.Clone(req.Header); r.Header == nil {
		r.Header = make(http.Header)
	}
	if t.replace {
		maps.DeleteFunc(r.Header, func(key string, _ []string) bool { return strings.EqualFold(key, "Authorization") })
	}
	r.Header["Authorization"] = r.authorization[:]
	r.Body = body
	if sent, ok := body.(*sentBody); ok {
		r.GetBody = func() (io.ReadCloser, error) { return sent.all.next(req.Context()) }
	}
	return &r.Request
}

// listed reports whether req goes to a listed origin, and nowhere else. Host and URL.Opaque can
// name a server other than URL.Host, such as another tenant, and whatever answers at URL.Host
// may pass the request on to it (RFC 9112 section 3.2).
func (t *Transport) listed(req *http.Request) bool {
	if !t.lists(req.URL) {
		return false
	}
	if req.Host != "" && req.Host != req.URL.Host && !t.lists(&url.URL{Scheme: req.URL.Scheme, Host: req.Host}) {
		return false
	}
	switch opaque := req.URL.Opaque; {
	case opaque == "":
		return true
	case strings.HasPrefix(opaque, "//"):
		u, err := url.Parse(req.URL.Scheme + ":" + opaque) // as it is sent, see url.URL.RequestURI
		return err == nil && t.lists(u)
	default:
		return opaque[0] == '/'
	}
}

func (t *Transport) lists(u *url.URL) bool {
	for i := range t.origins {
		if t.origins[i].Matches(u) {
			return true
		}
	}
	return false
}

// hasAuthorization reports whether a request has an Authorization header of its own, in a
// spelling of Header.Set or of programs that fill the map themselves. Looking for any other
// mixture of cases would mean walking through all keys of every request.
func hasAuthorization(h map[string][]string) bool { // not http.Header, whose keys should be canonical
	return len(h["Authorization"]) > 0 || len(h["authorization"]) > 0 || len(h["AUTHORIZATION"]) > 0
}
