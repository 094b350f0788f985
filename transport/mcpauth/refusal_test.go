package mcpauth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/mcpauth"
	"github.com/stayauth/stayauth/transport/provider"
)

// refuses runs a test, whose user refuses everything, with a clock that moves only while the test
// sleeps, so that "at once" does not depend on the machine. That takes servers that are outside of
// the bubble, and connections that end with their request.
func (w *world) refuses(t *testing.T, test func(*testing.T)) {
	w.cancel.Store(true)
	synctest.Test(t, func(t *testing.T) {
		w.t, w.base = t, &http.Transport{DisableKeepAlives: true}
		test(t)
	})
}

// authorize is what the SDK does with a refused request.
func (w *world) authorize(ctx context.Context, h *mcpauth.Handler, status int, challenge string) error {
	req := httptest.NewRequest(http.MethodPost, w.address(), nil)
	resp := &http.Response{StatusCode: status, Header: http.Header{"Www-Authenticate": {challenge}}, Body: http.NoBody, Request: req}
	return h.Authorize(ctx, req, resp)
}

func wantDenied(t *testing.T, err error) { t.Helper(); wantCode(t, err, "access_denied") }

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[*transport.Error](err); !ok || e.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// A user who refuses in the browser sees it once, though the SDK makes two requests to begin a
// session; and again with a session that is begun later. Some servers have words of their own for it.
func TestRefusalInTheBrowser(t *testing.T) {
	w := newWorld(t)
	w.refuses(t, func(t *testing.T) {
		as, _ := w.now()
		opened, code := 0, ""
		h, _ := w.deciding(func(ctx context.Context, cfg login.Config) error {
			cfg.Out = io.Discard
			cfg.Open = func(_ context.Context, page string) error {
				opened++
				u, err := url.Parse(page)
				if err != nil {
					return err
				}
				answer := url.Values{"error": {code}, "state": {u.Query().Get("state")}, "iss": {as.URL()}}
				resp, err := (&http.Client{Transport: w.base}).Get(u.Query().Get("redirect_uri") + "?" + answer.Encode())
				if err == nil {
					resp.Body.Close()
				}
				return err
			}
			_, err := login.Loopback(ctx, cfg)
			return err
		})
		for i, answer := range []string{"access_denied", "access_denied", "user_cancelled_login"} {
			code = answer
			_, err := w.startWith(h)
			wantCode(t, err, code)
			if opened != i+1 {
				t.Errorf("%s: the browser was opened %d times, want %d", code, opened, i+1)
			}
			time.Sleep(2 * time.Second)
		}
	})
}

// A refusal is the answer to one question, however a server words it. Another demand, another
// authorization server, another agent and another user are others.
func TestRefusalIsOfOneQuestion(t *testing.T) {
	w := newWorld(t)
	elsewhere := w.registerAt(w.newAS())
	w.refuses(t, func(t *testing.T) {
		h := w.handler()
		defer h.Close(t.Context())
		for want, challenge := range []string{
			`Bearer realm="mcp"`,
			`Bearer error="insufficient_scope", scope="write"`,
			`Bearer error="insufficient_scope", scope="write admin"`,
			`Bearer error="insufficient_user_authentication", acr_values="mfa"`,
			`Bearer error="insufficient_user_authentication", acr_values="key"`,
			`Bearer error="insufficient_user_authentication", max_age="300"`,
			`Bearer error="insufficient_user_authentication", max_age="60"`,
			`Bearer error="insufficient_claims", claims="` + claims + `"`,
			`Bearer error="insufficient_claims", claims="` + otherClaims + `"`,
		} {
			status := http.StatusForbidden
			if want == 0 {
				status = http.StatusUnauthorized
			}
			for i := range 2 {
				time.Sleep(time.Duration(i) * 1999 * time.Millisecond)
				wantDenied(t, w.authorize(t.Context(), h, status, challenge+`, error_description="`+time.Now().String()+`"`))
				w.wantLogins(int32(want + 1))
			}
		}
		before := w.logins.Load()
		for _, h := range []*mcpauth.Handler{h, w.handler(), w.handlerOf("bob")} {
			wantDenied(t, w.authorize(t.Context(), h, http.StatusUnauthorized, `Bearer`))
			defer h.Close(t.Context())
		}
		w.wantLogins(before + 3)
		w.moveTo(elsewhere)
		wantDenied(t, w.authorize(t.Context(), h, http.StatusUnauthorized, `Bearer`))
		w.wantLogins(before + 4)
	})
}

var otherClaims = base64.StdEncoding.EncodeToString([]byte(`{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`))

// A user who refuses what a refresh did not bring, and ends the login, is asked for the next one.
func TestRefusalOfClaims(t *testing.T) {
	w := newWorld(t)
	h := w.handler()
	defer h.Close(t.Context())
	if err := w.connect(h); err != nil {
		t.Fatal(err)
	}
	asked := w.asked.Load()
	as, _ := w.now()
	as.Fault("/token", 0, refusesToRefresh)
	w.cancel.Store(true)
	w.demands(`Bearer error="insufficient_claims", claims="`+claims+`"`, nil)
	wantDenied(t, w.connect(h))
	if err := h.Logout(t.Context(), w.address()); err != nil {
		t.Fatal(err)
	}
	before := w.logins.Load()
	wantDenied(t, w.connect(h))
	if w.logins.Load() == before || w.asked.Load() != asked {
		t.Errorf("the user was not asked, or for %v", w.asked.Load())
	}
}

// Calls that wait while the user makes up their mind get the answer too, however long it takes to
// tell them all.
func TestRefusalAnswersAllWhoWait(t *testing.T) {
	w := newWorld(t)
	w.refuses(t, func(t *testing.T) {
		w.base = slow{w.base}
		h, asked := w.deciding(func(context.Context, login.Config) error {
			time.Sleep(time.Minute)
			return errors.New("the user has closed the window")
		})
		var running sync.WaitGroup
		for range 4 {
			running.Go(func() {
				if err := w.authorize(t.Context(), h, http.StatusUnauthorized, `Bearer`); err == nil {
					t.Error("logged in")
				}
			})
		}
		running.Wait()
		if *asked != 1 {
			t.Errorf("the user was asked %d times", *asked)
		}
	})
}

// What is no refusal is not taken for one: a provider that is down, and a call that is given up.
func TestFailureIsNoRefusal(t *testing.T) {
	w := newWorld(t)
	w.refuses(t, func(t *testing.T) {
		h, asked := w.deciding(func(ctx context.Context, _ login.Config) error {
			if _, ends := ctx.Deadline(); !ends {
				return &transport.Error{Kind: transport.ErrUnavailable, Op: "login"}
			}
			<-ctx.Done()
			return &transport.Error{Kind: transport.ErrLoginRequired, Op: "login", Err: context.Cause(ctx)}
		})
		for want := 1; want <= 4; want++ {
			ctx, cancel := t.Context(), func() {}
			if want%2 == 1 {
				ctx, cancel = context.WithTimeout(ctx, time.Second)
			}
			if err := w.authorize(ctx, h, http.StatusUnauthorized, `Bearer`); err == nil {
				t.Error("logged in")
			}
			cancel()
			if *asked != want {
				t.Errorf("the user was asked %d times, want %d", *asked, want)
			}
		}
	})
}

// slow is a network on which everything takes a second.
type slow struct{ http.RoundTripper }

func (s slow) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(time.Second)
	return s.RoundTripper.RoundTrip(req)
}

// deciding is an agent with a way to log in of its own, which fails.
func (w *world) deciding(decide func(context.Context, login.Config) error) (*mcpauth.Handler, *int) {
	w.t.Helper()
	as, _ := w.now()
	asked := 0
	h, err := mcpauth.New(mcpauth.Config{
		Cache: w.cache(), Discovery: provider.Discovery{Base: w.base},
		Client: provider.Client{Registered: map[string]provider.Credentials{as.URL(): {ID: "client"}}},
		Login: func(ctx context.Context, cfg login.Config) (*tokencache.Record, error) {
			asked++
			return nil, decide(ctx, cfg)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { h.Close(context.Background()) })
	return h, &asked
}
