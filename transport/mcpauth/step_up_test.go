package mcpauth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/mcpauth"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// demands makes the server want more of a token than that it is good, until a login asks for it.
func (w *world) demands(challenge string, isMet func(asked url.Values) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lacks = func(string) string {
		address, _ := w.opened.Load().(string)
		if u, err := url.Parse(address); err == nil && isMet != nil && isMet(u.Query()) {
			return ""
		}
		return challenge
	}
}

// connect is a session of its own, because a failure may end one.
func (w *world) connect(h *mcpauth.Handler) error { return w.connectWithin(w.t.Context(), h) }

func (w *world) connectWithin(ctx context.Context, h *mcpauth.Handler) error {
	w.t.Helper()
	p, err := w.startWithin(ctx, h)
	if err == nil {
		err = p.call()
		p.session.Close()
	}
	return err
}

// C104: an operation that needs more asks the user, who may refuse: then everything else goes on. A
// login that does not bring it is not repeated.
func TestStepUp(t *testing.T) {
	w := newWorld(t)
	p := w.mustStart()
	defer p.end()
	p.mustCall()
	w.wantLogins(1)

	w.needs("read", "write")
	w.cancel.Store(true)
	if err := p.call(); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("refused by the user: %v", err)
	}
	w.wantLogins(2)
	w.needs("read")
	p.mustCall()

	w.cancel.Store(false)
	time.Sleep(2 * time.Second) // The user has thought again.
	w.needs("write")
	p.mustCall()
	w.wantLogins(3)
	if asked := w.asked.Load().(string); !strings.Contains(asked, "read") || !strings.Contains(asked, "write") {
		t.Errorf("asked for %q", asked)
	}

	w.needs("write", "admin")
	for range 2 {
		if err := p.call(); err == nil {
			t.Error("a scope that nobody has")
		}
	}
	w.needs("read")
	p.mustCall()
}

// A login that does not bring what was asked for is not repeated.
func TestStepUpIsNotRepeated(t *testing.T) {
	w := newWorld(t)
	p := w.mustStart()
	defer p.end()
	w.stingy.Store(true)
	w.needs("write")
	for range 3 { // each with a session of its own, because this failure ends one
		if _, err := w.startWith(p.handler); err == nil {
			t.Error("the server had what it needs")
		}
	}
	w.wantLogins(2)
}

// C104: of many operations that need more at the same time, in several agents, one asks the user.
func TestOneStepUpForAllAgents(t *testing.T) {
	w := newWorld(t)
	one, two, idle := w.mustStart(), w.mustStart(), w.mustStart()
	for _, p := range []*program{one, two, idle} {
		defer p.end()
		p.mustCall()
	}
	w.wantLogins(1)
	w.needs("write")
	var running sync.WaitGroup
	for _, p := range []*program{one, one, two, two} {
		running.Go(func() {
			if err := p.call(); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	idle.mustCall()
	w.wantLogins(2)
}

// C44, C100: a server wants the user to be authenticated in another way (RFC 9470). That is asked of
// the user at once, and not of the provider with a refresh.
func TestStepUpOfAuthentication(t *testing.T) {
	w := newWorld(t)
	h := w.handler()
	defer h.Close(t.Context())
	if err := w.connect(h); err != nil {
		t.Fatal(err)
	}
	w.demands(`Bearer error="insufficient_user_authentication", acr_values="mfa", max_age="300"`, func(asked url.Values) bool {
		return asked.Get("acr_values") == "mfa" && asked.Get("max_age") == "300"
	})
	if err := w.connect(h); err != nil {
		t.Error(err)
	}
	w.wantLogins(2)
	as, _ := w.now()
	if c := as.Counts(); c.Rotations != 0 {
		t.Errorf("the authorization server counted %+v", c)
	}
}

// What neither a refresh nor a login brings is an error that has the server's demand, and nobody is
// asked to log in for nothing.
func TestDemandsThatNoLoginMeets(t *testing.T) {
	for _, challenge := range []string{`Bearer error="insufficient_scope"`, `Bearer error="invalid_request"`} {
		w := newWorld(t)
		h := w.handler()
		defer h.Close(t.Context())
		if err := w.connect(h); err != nil {
			t.Fatal(err)
		}
		w.demands(challenge, func(url.Values) bool { return false })
		err := w.connect(h)
		if _, ok := errors.AsType[transport.Challenge](err); !ok {
			t.Errorf("%s: %v", challenge, err)
		}
		w.wantLogins(1)
		as, _ := w.now()
		if c := as.Counts(); c.Rotations != 0 {
			t.Errorf("%s: the authorization server counted %+v", challenge, c)
		}
	}
}

// A server that is never content does not have the user log in again and again, whichever agent
// asks it.
func TestStepUpThatNeverHelps(t *testing.T) {
	for _, challenge := range []string{
		`Bearer error="insufficient_user_authentication", acr_values="mfa"`,
		`Bearer error="insufficient_user_authentication", max_age=0`,
		`Bearer error="insufficient_scope", scope="write"`,
		`Bearer error="insufficient_claims", claims="` + claims + `"`,
	} {
		w := newWorld(t)
		one, two := w.handler(), w.handler()
		defer one.Close(t.Context())
		defer two.Close(t.Context())
		for _, h := range []*mcpauth.Handler{one, two} {
			if err := w.connect(h); err != nil {
				t.Fatal(err)
			}
		}
		as, _ := w.now()
		as.Fault("/token", 0, refusesToRefresh)
		w.demands(challenge, func(url.Values) bool { return false })
		for range 4 {
			for _, h := range []*mcpauth.Handler{one, two} {
				if w.connect(h) == nil {
					t.Error("the server was content")
				}
			}
		}
		if got := w.visits.Load(); got != 2 {
			t.Errorf("%s: the browser was opened %d times", challenge, got)
		}
	}
}

var claims = base64.StdEncoding.EncodeToString([]byte(`{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`))

// refusesToRefresh wants the user for every refresh.
func refusesToRefresh(endpoint http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !bytes.Contains(body, []byte("grant_type=refresh_token")) {
			endpoint.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"interaction_required"}`)
	})
}

// C103: what a server demands of the claims of a token is asked of the provider and, if that wants
// the user, of the user.
func TestStepUpOfClaims(t *testing.T) {
	w := newWorld(t)
	h := w.handler()
	defer h.Close(t.Context())
	if err := w.connect(h); err != nil {
		t.Fatal(err)
	}
	as, _ := w.now()
	as.Fault("/token", 0, refusesToRefresh)
	w.demands(`Bearer error="insufficient_claims", claims="`+claims+`"`, func(asked url.Values) bool {
		return strings.Contains(asked.Get("claims"), "1604106651")
	})
	for range 2 {
		if err := w.connect(h); err != nil {
			t.Error(err)
		}
	}
	w.wantLogins(2)
}

// Agents that see a login of each other do not forget that it did not bring what they miss.
func TestStepUpIsNotRepeatedByTwoAgents(t *testing.T) {
	w := newWorld(t)
	one, two := w.handler(), w.handler()
	defer one.Close(t.Context())
	defer two.Close(t.Context())
	w.stingy.Store(true)
	w.connect(one)
	w.needs("write")
	for range 4 {
		for _, h := range []*mcpauth.Handler{one, two} {
			if w.connect(h) == nil {
				t.Error("the server had what it needs")
			}
		}
	}
	if got := w.logins.Load(); got > 3 { // the first, and one for each agent
		t.Errorf("the user was asked to log in %d times", got)
	}
}

// A login that another agent has just made is used, and the user is not asked for another one.
func TestLoginOfAnotherAgentIsUsedAtOnce(t *testing.T) {
	w := newWorld(t)
	one, two := w.handler(), w.handler()
	defer one.Close(t.Context())
	defer two.Close(t.Context())
	if err := w.connect(one); err != nil {
		t.Fatal(err)
	}
	as, _ := w.now()
	as.RevokeFamily(as.Current("user").RefreshToken)
	w.expire()
	h := w.handler() // which knows nothing yet
	defer h.Close(t.Context())
	w.cancel.Store(true)
	for _, h := range []*mcpauth.Handler{h, two} {
		if err := w.connect(h); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("got %v", err)
		}
	}
	w.cancel.Store(false)
	time.Sleep(2 * time.Second) // The user has thought again.
	before := w.logins.Load()
	for _, h := range []*mcpauth.Handler{two, h} {
		if err := w.connect(h); err != nil {
			t.Error(err)
		}
	}
	w.wantLogins(before + 1)
}

// C110: an authorization server that has forgotten the program, which had registered itself there,
// is one to register and log in at anew.
func TestForgottenRegistration(t *testing.T) {
	var now atomic.Pointer[oauthtest.Server]
	registered := 0
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	defer front.Close()
	start := func() {
		as := oauthtest.New(oauthtest.Config{ClientID: fmt.Sprint("client-", registered+1), AuthStyle: oauthtest.AuthNone, Scope: "read write", AccessTTL: time.Second})
		if err := as.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(as.Close)
		now.Store(as)
	}
	start()
	mux.Handle("/", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		to, _ := url.Parse(now.Load().URL()) // It is one.
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}})
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"issuer": front.URL, "authorization_endpoint": front.URL + "/authorize", "token_endpoint": front.URL + "/token",
			"registration_endpoint": front.URL + "/register", "code_challenge_methods_supported": []string{"S256"},
			"token_endpoint_auth_methods_supported": []string{"none"}, "authorization_response_iss_parameter_supported": true})
	})
	mux.HandleFunc("/register", func(w http.ResponseWriter, _ *http.Request) {
		registered++
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"client_id": fmt.Sprint("client-", registered), "token_endpoint_auth_method": "none"})
	})
	w := newWorld(t)
	w.moveTo(now.Load())
	w.first = front.URL
	w.known = nil
	for _, running := range []bool{true, false} {
		h := w.newHandler("", provider.Client{Name: "Agent"})
		if err := w.connect(h); err != nil {
			t.Fatal(err)
		}
		if !running {
			h.Close(t.Context())
			h = w.newHandler("", provider.Client{Name: "Agent"})
		}
		start()
		w.moveTo(now.Load())
		before := w.logins.Load()
		err := errors.New("not tried")
		for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			err = w.connect(h) // It fails until the token has expired: a new one is not replaced.
		}
		if err != nil {
			t.Error(err)
		}
		w.wantLogins(before + 1)
		h.Close(t.Context())
	}
}

// A configuration with which no login could ever be made is refused at once, and a Handler that
// New has not made says so.
func TestHandlerThatCannotWork(t *testing.T) {
	w := newWorld(t)
	cache := w.cache()
	for _, cfg := range []mcpauth.Config{{}, {Client: provider.Client{Name: "Agent"}}, {Cache: cache}} {
		if _, err := mcpauth.New(cfg); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	var h mcpauth.Handler
	if err := w.connect(&h); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("got %v", err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
