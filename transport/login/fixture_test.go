package login

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A world is a provider and a program that logs in there.
type world struct {
	t   *testing.T
	srv *oauthtest.Server
	cfg Config
	out *output
}

// newWorld starts a provider on a loopback port. Nobody opens a browser unless the
// test sets Open.
func newWorld(t *testing.T, cfg oauthtest.Config) *world {
	t.Helper()
	srv := oauthtest.New(cfg)
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	p, err := provider.Discover(t.Context(), srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	p.Name = "Example"
	out := new(output)
	t.Cleanup(func() {
		if said := out.String(); containsAny(said, srv.Secrets()) {
			t.Errorf("the terminal shows a secret:\n%s", said)
		}
	})
	return &world{t: t, srv: srv, out: out, cfg: Config{
		Provider: p,
		Endpoint: p.Endpoint(srv.ClientID(), tokencache.Secret(srv.ClientSecret()), "api"),
		Timeout:  30 * time.Second,
		Open:     func(context.Context, string) error { return nil },
		Out:      out,
	}}
}

// wantLogin checks that rec is a login that works.
func (w *world) wantLogin(rec *tokencache.Record, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("the login failed: %v", err)
	}
	if !w.srv.Valid(string(rec.AccessToken)) || !w.srv.Valid(string(rec.RefreshToken)) {
		w.t.Errorf("the provider does not know the tokens of %+v", rec)
	}
	if rec.TokenURL != w.srv.TokenURL() || rec.AuthorizedAt.IsZero() || rec.Scope != "api" {
		w.t.Errorf("the record is incomplete: %+v", rec)
	}
}

// wantError checks the kind of an error, and that it is an *Error with all of these
// words and no secret.
func (w *world) wantError(err error, kind transport.Kind, words ...string) {
	w.t.Helper()
	wantError(w.t, err, kind, words...)
	if err != nil && containsAny(err.Error(), w.srv.Secrets()) {
		w.t.Errorf("the error shows a secret: %v", err)
	}
}

// An output collects what the user sees, and lets the user act on seeing it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer

	wait string
	then func()
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wait != "" && strings.Contains(string(p), o.wait) {
		o.then()
	}
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// A visit is what a browser finally shows.
type visit struct {
	url    *url.URL
	status int
	header http.Header
	body   string
	err    error
}

// browse opens a URL as a browser would, and follows redirects.
func browse(target string) visit {
	return browseUntil(target, func(*http.Request) bool { return false })
}

// browseUntil does not follow the redirect for which stop is true, and returns it.
func browseUntil(target string, stop func(next *http.Request) bool) visit {
	c := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true},
		Timeout:   20 * time.Second,
		CheckRedirect: func(next *http.Request, _ []*http.Request) error {
			next.URL.Host = strings.ToLower(next.URL.Host) // as browsers do
			if stop(next) {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
	resp, err := c.Get(target)
	if err != nil {
		return visit{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	v := visit{resp.Request.URL, resp.StatusCode, resp.Header, string(body), err}
	if next, err := resp.Location(); err == nil {
		v.url = next
	}
	return v
}

// answerTo lets the user log in at target, and returns the URL that the provider
// leads the browser back to.
func answerTo(t *testing.T, target, redirectURI string) *url.URL {
	t.Helper()
	v := browseUntil(target, func(next *http.Request) bool { return strings.HasPrefix(next.URL.String(), redirectURI) })
	if v.err != nil || v.status != http.StatusFound {
		t.Fatalf("the provider answered HTTP %d, %v: %s", v.status, v.err, v.body)
	}
	return v.url
}

// with returns a copy of u with some parameters changed: "" removes one.
func with(u *url.URL, params ...string) string {
	c := *u
	q := c.Query()
	for i := 0; i < len(params); i += 2 {
		if q.Del(params[i]); params[i+1] != "" {
			q.Set(params[i], params[i+1])
		}
	}
	c.RawQuery = q.Encode()
	return c.String()
}

// wantClosed checks that nobody listens at the host and port of u.
func wantClosed(t *testing.T, u *url.URL) {
	t.Helper()
	if c, err := net.DialTimeout("tcp", u.Host, time.Second); err == nil {
		c.Close()
		t.Errorf("somebody still listens at %s", u.Host)
	}
}

// redirectURIOf returns the redirect URI in an authorization request.
func redirectURIOf(t *testing.T, request string) *url.URL {
	t.Helper()
	u, err := url.Parse(request)
	if err != nil {
		t.Fatal(err)
	}
	back, err := url.Parse(u.Query().Get("redirect_uri"))
	if err != nil || back.Host == "" {
		t.Fatalf("the request has no redirect_uri: %s", request)
	}
	return back
}

func wantError(t *testing.T, err error, kind transport.Kind, words ...string) {
	t.Helper()
	e, ok := err.(*transport.Error)
	if !ok || e.Kind != kind {
		t.Fatalf("the error is %#v, want an *Error of kind %q", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error says %q, which lacks %q", err, word)
		}
	}
}

func containsAny(s string, secrets []string) bool {
	for _, x := range secrets {
		if x != "" && strings.Contains(s, x) {
			return true
		}
	}
	return false
}
