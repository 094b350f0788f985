package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
)

const (
	requestTimeout = 15 * time.Second
	maxAnswer      = 1 << 20 // bytes; answers of a few KiB are usual
)

// obtain makes one token request and reads the answer as a record.
func (e *Endpoint) obtain(ctx context.Context, op string, form url.Values) (*tokencache.Record, error) {
	a, err := e.post(ctx, op, e.TokenURL, form)
	if err != nil {
		return nil, err
	}
	rec, err := a.record()
	if rec != nil {
		rec.TokenURL = e.TokenURL
	}
	return rec, err
}

// form returns the parameters of a token request with the given grant type.
func (e *Endpoint) form(grantType string) url.Values {
	form := url.Values{"grant_type": {grantType}}
	for name, values := range e.Params {
		for _, v := range values {
			if v != "" { // RFC 6749 section 3.2: as if it were omitted.
				form.Add(name, v)
			}
		}
	}
	return form
}

func set(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
}

// post sends form to target, once, and reads the answer, whatever its status. An
// error means that there is none.
func (e *Endpoint) post(ctx context.Context, op, target string, form url.Values) (*answer, error) {
	timeout := e.Timeout
	if timeout == 0 {
		timeout = requestTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if ctx.Err() != nil {
		return nil, &Error{Kind: ErrUnavailable, Op: op, Err: ctx.Err()}
	}
	var progress progress
	req, err := e.request(httptrace.WithClientTrace(ctx, progress.trace()), target, form)
	if err != nil {
		return nil, endpointError("TokenURL", "use an absolute URL, such as https://login.example.com/token")
	}
	base := e.Base
	if base == nil {
		base = http.DefaultTransport
	}
	a := &answer{op: op, sentAt: wallNow(), sent: e.secrets(form), codes: e.Codes}
	resp, err := base.RoundTrip(req) // Not http.Client, which follows redirects.
	if err != nil {
		kind := ErrAmbiguous
		if t, ok := base.(*http.Transport); progress.notSent() || ok && t.Proxy != nil && !progress.started.Load() {
			kind = ErrUnavailable // Proxy, which has failed, is asked before a connection is.
		}
		cause := a.cause(err)
		if ctx.Err() != nil {
			cause = ctx.Err()
		}
		return nil, &Error{Kind: kind, Op: op, Err: cause}
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if location, err := resp.Location(); err == nil {
		a.redirect = location.Host
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		a.incomplete = a.cause(err)
	case len(body) > maxAnswer:
		a.incomplete = errors.New("the answer is longer than 1 MiB")
	}
	a.at = wallNow()
	a.parse(body)
	return a, nil
}

// request builds the request, with one way of client authentication (RFC 6749
// section 2.3).
func (e *Endpoint) request(ctx context.Context, target string, form url.Values) (*http.Request, error) {
	basic := e.ClientSecret != "" && e.AuthStyle == oauth2.AuthStyleInHeader
	if !basic {
		form.Set("client_id", e.ClientID)
		set(form, "client_secret", string(e.ClientSecret))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if basic { // Section 2.3.1: form-urlencoded first.
		req.SetBasicAuth(url.QueryEscape(e.ClientID), url.QueryEscape(string(e.ClientSecret)))
	}
	req.Header.Set("Content-Type", formType)
	req.Header.Set("Accept", jsonType) // GitHub answers with a form otherwise.
	return req, nil
}

// progress watches how far a request got. Whether any of it was written decides
// whether a refresh token may have been spent.
type progress struct{ started, wrote atomic.Bool }

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		// http.Transport asks for a second connection only if the server cannot have
		// seen anything of the request on the first: an idle one that had been closed.
		GetConn:          func(string) { p.started.Store(true); p.wrote.Store(false) },
		WroteHeaderField: func(string, []string) { p.wrote.Store(true) },
	}
}

// notSent reports whether it is certain that nothing was written.
func (p *progress) notSent() bool { return p.started.Load() && !p.wrote.Load() }
