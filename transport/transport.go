package transport

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// A Config says which requests of a client get a token.
type Config struct {
	// Source has the token, or Pool those of many accounts, of which the context of
	// each request names one. One of the two is required.
	Source *Source
	Pool   *Pool

	// Origins are the scheme, host and port of the APIs that may see the token, such
	// as "https://api.example.com" or "https://*.example.com". Plain http is for
	// loopback addresses only. Requests to anywhere else pass without a token, and so
	// does each hop of a redirect. Required.
	Origins []string

	// Base sends the requests. Default: http.DefaultTransport.
	Base http.RoundTripper

	// MaxReplayBody is the largest request body, in bytes, that is kept in memory so
	// that the request can be repeated after a 401, if its length is known and it has
	// no GetBody. Default: 65536. A negative value keeps none.
	MaxReplayBody int64

	// Settle bounds how long a response is held back until the refresh that its
	// request has started in the background is saved, so that a program which ends
	// after the response does not interrupt it. Default: 5 seconds. A negative value
	// holds nothing back; such a program must call Source.Flush.
	Settle time.Duration
}

// A Transport is an http.RoundTripper that attaches the access token of a Source,
// or of one in a Pool, and repeats a request once if the token was refused. It is safe for concurrent
// use.
type Transport struct {
	logins        chooser
	origins       []origin
	base          http.RoundTripper
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
	t := &Transport{logins: cfg.Source, base: cfg.Base, maxReplayBody: cfg.MaxReplayBody, settle: cfg.Settle}
	if cfg.Pool != nil {
		t.logins = cfg.Pool
	}
	for _, s := range cfg.Origins {
		o, err := parseOrigin(s)
		if err != nil {
			return nil, err
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

// Format prints whose tokens are sent, whatever the verb, and nothing secret.
func (t *Transport) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "Transport{%v}", t.logins) }

// RoundTrip sends req with a token. If the API answers 401 because of the token,
// the token is renewed and the request is sent once more, provided that its body
// can be had again. Whatever goes wrong with that, the first answer is returned as
// it came. A request that has an Authorization header already, or that goes to an
// origin that is not listed, is passed on untouched.
//
// Without a token there is no request: the error is an *Error.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || !t.listed(req) {
		return t.base.RoundTrip(req)
	}
	var snap *snapshot
	var started *flight
	src, err := t.logins.choose(req.Context())
	if err == nil {
		snap = src.fresh()
	}
	if snap == nil {
		if len(req.Header["Authorization"]) > 0 {
			return t.base.RoundTrip(req)
		}
		if err == nil {
			snap, started, err = src.token(req.Context())
		}
		if err != nil {
			closeBody(req)
			return nil, err
		}
	}
	authorized := withToken(req, snap)
	if authorized == nil {
		return t.base.RoundTrip(req)
	}
	body, err := t.replayable(req)
	if err != nil {
		return nil, err // The caller's own body failed: nothing was sent.
	}
	authorized.Body = body.first
	resp, err := t.base.RoundTrip(authorized)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && refreshCures(resp) {
		resp = t.retry(src, req, body, snap, resp)
	}
	if err == nil {
		resp.Request = req // Not the copy with the token, which might end up in a log.
	}
	if started != nil {
		t.wait(req.Context(), started)
	}
	return resp, err
}

// CloseIdleConnections closes those of the base transport, if it can.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) listed(req *http.Request) bool {
	for i := range t.origins {
		if t.origins[i].matches(req.URL) {
			return true
		}
	}
	return false
}

// withToken returns a copy of req with the token, since a RoundTripper must not
// modify its request (net/http.RoundTripper), or nil if req has an Authorization
// header already. That is seen by what the copy of the headers grows, which saves
// every request that has none a search for it.
func withToken(req *http.Request, snap *snapshot) *http.Request {
	r := new(http.Request)
	*r = *req
	if r.Header = maps.Clone(req.Header); r.Header == nil {
		r.Header = make(http.Header)
	}
	r.Header["Authorization"] = snap.header[:]
	if len(r.Header) == len(req.Header) && len(req.Header["Authorization"]) > 0 {
		return nil
	}
	return r
}

// retry answers a 401. It returns the response to the repeated request, or resp
// as it came: who has a response must not turn it into an error.
func (t *Transport) retry(src *Source, req *http.Request, body replayBody, snap *snapshot, resp *http.Response) *http.Response {
	if body.again != nil {
		detach(resp)
	}
	next, err := src.reject(req.Context(), snap.rec.AccessToken)
	if err != nil || body.again == nil {
		return resp // The next request has the new token, if there is one.
	}
	b, err := body.again()
	if err != nil {
		return resp
	}
	r := withToken(req, next)
	r.Body = b
	second, err := t.base.RoundTrip(r)
	if err != nil {
		return resp
	}
	resp.Body.Close()
	return second
}

// wait holds a response back until the refresh that its request started is saved.
// In a service that keeps the token fresh nothing exits in between.
func (t *Transport) wait(ctx context.Context, f *flight) {
	if t.settle < 0 || t.logins.kept() {
		return
	}
	timer := time.NewTimer(t.settle)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}
