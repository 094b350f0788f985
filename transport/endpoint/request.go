package endpoint

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/internal/httphooks"
	"github.com/stayauth/stayauth/transport/internal/mutualtls"
	"github.com/stayauth/stayauth/transport/internal/neterror"
)

// A message is what the client posts to an endpoint of the provider.
type message struct {
	op, target string
	form       url.Values
	key        *dpop.Key // that the client proves to have, or nil
}

// obtain makes one token request and returns the answer as a record, whose tokens are bound to
// key unless that is nil.
func (e *Endpoint) obtain(ctx context.Context, op string, form url.Values, key *dpop.Key) (*tokencache.Record, error) {
	a, err := e.post(ctx, message{op, e.TokenURL, form, key})
	if err != nil {
		return nil, err
	}
	rec, err := a.record()
	if rec != nil {
		rec.TokenURL = e.TokenURL
		a.obtained()
	}
	if rec != nil && key != nil {
		rec.Bind(key.Private, key.Thumbprint)
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

// post sends m and reads the answer, whatever its status. An error means that there is none.
// What can be spent is presented once: only if the provider has refused to look at it, because
// it wants another nonce in the proof or has another time, m is sent once more.
func (e *Endpoint) post(ctx context.Context, m message) (*answer, error) {
	a, news, err := e.postOnce(ctx, m)
	if err == nil && a.wantsOtherProof(news) {
		a, _, err = e.postOnce(ctx, m)
	}
	return a, err
}

// postOnce is one attempt of post, and also returns what the answer says about the proof. If
// the form of m holds something that can be spent only once, it waits for the answer with
// patience, see wait.
func (e *Endpoint) postOnce(ctx context.Context, m message) (a *answer, news dpop.News, err error) {
	op, target := m.op, m.target
	timeout := e.Timeout
	if timeout == 0 {
		timeout = requestTimeout
		if target == e.TokenURL {
			timeout = answerTimeout
		}
	}
	if ctx.Err() != nil {
		return nil, news, &transport.Error{Kind: transport.ErrUnavailable, Op: op, Err: ctx.Err()}
	}
	caller := ctx
	ctx, giveUp := context.WithCancelCause(httphooks.Without(ctx))
	defer giveUp(nil)
	var progress progress
	form := maps.Clone(m.form) // What proves who the client is may be good for one request.
	req, err := e.request(httptrace.WithClientTrace(ctx, progress.trace()), op, target, form)
	if err != nil {
		return nil, news, err
	}
	var said dpop.Said
	if m.key != nil {
		if said, err = e.shared().servers.Prove(ctx, m.key, req, ""); err != nil {
			return nil, news, notSent(op, "DPoP", err)
		}
	}
	a = &answer{op: op, sentAt: wallNow(), sent: e.secrets(form, req.Header), codes: e.Codes,
		public: e.isPublic(), proven: e.ClientAuth != nil, presented: e.ClientCertificate, certified: e.byCertificate(), aliased: e.address(target) != target, stated: form.Has("assertion"), bound: m.key != nil, unbound: m.key == nil && e.DPoP != nil}
	probe := e.probe
	if target != e.TokenURL {
		probe = nil
	}
	go progress.wait(ctx, giveUp, timeout, probe)
	resp, obtained, err := e.send(req)
	if err != nil {
		if neterror.RefusesCertificate(err) {
			refused := endpointError("Base", "check the client's certificate: the provider does not accept it")
			refused.Op, refused.Err = op, a.cause(err)
			return nil, news, refused
		}
		if failed, ok := errors.AsType[*transport.Error](err); ok && progress.notSent() { // The certificate cannot be had.
			return nil, news, notSent(op, "Base", failed)
		}
		kind := transport.ErrAmbiguous
		if t, ok := mutualtls.Of(e.base()); progress.notSent() || ok && t.Proxy != nil && !progress.started.Load() {
			kind = transport.ErrUnavailable // The Proxy function failed, before there was a connection.
		}
		return nil, news, &transport.Error{Kind: kind, Op: op, Err: a.whyNot(caller, ctx, err)}
	}
	defer resp.Body.Close()
	a.status, a.header, a.obtained = resp.StatusCode, resp.Header, obtained
	if location, err := resp.Location(); err == nil {
		a.redirect = location.Host
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		a.incomplete = truncation{a.whyNot(caller, ctx, err)}
	case len(body) > maxAnswer:
		a.incomplete = errTooLong
	}
	a.at = wallNow()
	a.misdated, a.late = e.shared().clock.learn(a.header, a.sentAt, a.at), a.at.Sub(a.sentAt) >= requestTimeout
	a.sentAt = a.madeAt()
	a.parse(body)
	if m.key != nil {
		news = e.shared().servers.Heard(said, a.header)
		a.aged = news.Late
	}
	return a, news, nil
}

// whyNot returns why there is no answer: the end of the caller's context, or the reason to give
// up, which ended ctx, or else the error of the connection.
func (a *answer) whyNot(caller, ctx context.Context, err error) error {
	return cmp.Or(caller.Err(), context.Cause(ctx), a.cause(err))
}

func (e *Endpoint) base() http.RoundTripper {
	if e.Base == nil {
		return http.DefaultTransport
	}
	return e.Base
}

// abandonedTime is after how long a connection is closed that was established after its request
// had been given up. DisableKeepAlives closes an HTTP/2 connection only when a request on it
// ends.
const abandonedTime = time.Second

// send sends a request to the provider over a connection of its own if Base is an
// http.Transport, and asks any other Base to do the same. A connection left from the last
// request may have fallen silent since, after a change of networks for instance: the request
// would vanish in it, and over HTTP/2 so would every later one (golang/go#59690). Token
// requests are so rare that a handshake for each costs next to nothing. obtained is to be called
// if the answer has tokens.
func (e *Endpoint) send(req *http.Request) (resp *http.Response, obtained func(), err error) {
	base := e.base()
	req.Close = true
	obtained = func() {}
	if t, ok := base.(*mutualtls.Transport); ok {
		base, obtained = t.Newest()
	}
	if t, ok := base.(*http.Transport); ok {
		t = t.Clone()
		t.DisableKeepAlives = true
		t.IdleConnTimeout = abandonedTime
		base = t
	}
	resp, err = base.RoundTrip(req) // Not http.Client, which follows redirects.
	return resp, obtained, err
}

// secrets returns what is sent and must not be shown: every parameter but those that are known
// not to be secret, because grants that this package does not know have secrets too.
func (e *Endpoint) secrets(form url.Values, header http.Header) []string {
	secrets := []string{string(e.ClientSecret)}
	for name, values := range header {
		if e.ClientAuth == nil && name != "Dpop" || name == "Content-Type" || name == "Accept" {
			continue
		}
		for _, part := range strings.Fields(strings.Join(values, " ")) {
			if len(part) >= minSecret { // otherwise it is a scheme, or the name of something
				secrets = append(secrets, part)
			}
		}
	}
	for name, values := range form {
		switch name {
		case "refresh_token", "code", "code_verifier", "token", "client_secret", "client_assertion", "device_code",
			"assertion", "subject_token", "actor_token", e.ExchangeGrant:
			secrets = append(secrets, values...)
		case "grant_type", "client_id", "scope", "redirect_uri", "resource", "audience", "response_type", "token_type_hint", "claims",
			"code_challenge", "code_challenge_method", "client_assertion_type",
			"requested_token_type", "subject_token_type", "actor_token_type":
		default:
			for _, v := range values {
				if len(v) >= minSecret {
					secrets = append(secrets, v)
				}
			}
		}
	}
	return secrets
}

// Probe asks the provider a harmless question, to learn whether it would handle a request now:
// any answer but a server error (5xx) means that it would. No secret is sent. Errors are
// *Error, with a Status if the provider has answered. Calls at the same time share one
// question.
func (e *Endpoint) Probe(ctx context.Context) error {
	if err := e.probe(ctx); err != nil {
		return err
	}
	return nil
}

func (e *Endpoint) probe(ctx context.Context) *transport.Error {
	return e.shared().question.ask(ctx, e.probeNow)
}

func (e *Endpoint) probeNow(ctx context.Context) *transport.Error {
	ctx = httphooks.Without(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, e.address(e.TokenURL), http.NoBody)
	if err != nil {
		return nil // Refresh will say what is wrong.
	}
	resp, _, err := e.send(req)
	if err != nil {
		cause := neterror.Safe(err)
		if ctx.Err() != nil {
			cause = ctx.Err()
		}
		return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: cause}
	}
	resp.Body.Close()
	if resp.StatusCode/100 == 5 && resp.StatusCode != http.StatusNotImplemented {
		return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Status: resp.StatusCode,
			RetryAfter: retryAfter(resp.Header.Get("Retry-After"), wallNow())}
	}
	return nil
}

// request builds the request of an authenticated client.
func (e *Endpoint) request(ctx context.Context, op, target string, form url.Values) (*http.Request, error) {
	header := http.Header{
		"Content-Type": {formType},
		"Accept":       {jsonType}, // GitHub answers with a form otherwise.
	}
	proven := &AuthRequest{ClientID: e.ClientID, Issuer: cmp.Or(e.Issuer, e.TokenURL), URL: target, Now: e.shared().clock.now(), Algorithms: e.AuthAlgorithms, Header: header, Form: form}
	auth := clientAuth{e.ClientID, e.ClientSecret, e.AuthStyle, e.ClientAuth, &e.shared().helper}
	if err := auth.authenticate(ctx, op, proven); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.address(target), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, endpointError("TokenURL", "use an absolute URL, such as https://login.example.com/token")
	}
	req.Header = header
	return req, nil
}
