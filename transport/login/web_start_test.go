package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// begun reports whether a response has begun a login.
func begun(v visit) bool {
	return strings.Contains(v.header.Get("Location"), "/authorize") || len(v.header.Values("Set-Cookie")) > 0
}

// W01, W02, W08: a login begins only if the signed-in user wants it, on a page of this
// site. Otherwise there is neither a cookie nor a redirect.
func TestW01OnlyTheUserStartsALogin(t *testing.T) {
	headers := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = nil // removes what form has set
			if pairs[i+1] != "" {
				h.Set(pairs[i], pairs[i+1])
			}
		}
		return h
	}
	const site, mode = "Sec-Fetch-Site", "Sec-Fetch-Mode"
	for _, tt := range []struct {
		name, method, user string
		header             http.Header
		status             int
		refusal            Refusal
	}{
		{"a form of this site", "POST", "ann", nil, 303, ""},
		{"in a browser of yesterday", "POST", "ann", headers(site, "", mode, ""), 303, ""},
		{"a form of another site", "POST", "ann", headers(site, "cross-site"), 403, RefusedCrossSite},
		{"a form of a sister site", "POST", "ann", headers(site, "same-site"), 403, RefusedCrossSite},
		{"the same in a browser of yesterday", "POST", "ann", headers(site, "", mode, "", "Origin", "https://evil.example"), 403, RefusedCrossSite},
		{"a sandboxed form", "POST", "ann", headers(site, "", mode, "", "Origin", "null"), 403, RefusedCrossSite},
		{"a link of this site", "GET", "ann", headers(site, "same-origin", mode, "navigate"), 303, ""},
		{"the address bar", "GET", "ann", headers(site, "none", mode, "navigate"), 303, ""},
		{"a link of another site", "GET", "ann", headers(site, "cross-site", mode, "navigate"), 403, RefusedCrossSite},
		{"a link of who knows where", "GET", "ann", headers(site, "", mode, ""), 403, RefusedCrossSite},
		{"HEAD", "HEAD", "ann", headers(site, "same-origin", mode, "navigate"), 403, RefusedCrossSite},
		{"PUT", "PUT", "ann", nil, 403, RefusedCrossSite},
		{"nobody is signed in", "POST", "", nil, 401, RefusedNoUser},
		{"a script", "POST", "ann", headers(mode, "cors"), 401, RefusedBackground},
		{"an image", "GET", "ann", headers(site, "same-origin", mode, "no-cors"), 401, RefusedBackground},
		{"a frame", "POST", "ann", headers("Sec-Fetch-Dest", "iframe"), 401, RefusedBackground},
		{"a page", "POST", "ann", headers("Sec-Fetch-Dest", "document"), 303, ""},
		{"a prefetch", "GET", "ann", headers(site, "same-origin", mode, "navigate", "Sec-Purpose", "prefetch"), 401, RefusedBackground},
		{"a prerender", "GET", "ann", headers(site, "same-origin", mode, "navigate", "Sec-Purpose", "prefetch;prerender"), 401, RefusedBackground},
		{"a preview", "GET", "ann", headers(site, "none", "X-Purpose", "preview"), 401, RefusedBackground},
		{"an old prefetch", "GET", "ann", headers(site, "same-origin", "X-Moz", "prefetch"), 401, RefusedBackground},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 1, nil)
			b := s.surfer(tt.user)
			req := form("/connect")
			if req.Method = tt.method; tt.method == "GET" || tt.method == "HEAD" {
				req = get("/connect")
				req.Method = tt.method
			}
			b.header = tt.header
			v := b.do(req, always)
			if v.status != tt.status || begun(v) != (tt.refusal == "") {
				t.Errorf("HTTP %d, %v: %s", v.status, v.header, v.body)
			}
			if tt.refusal == "" {
				s.wantEvents(EventStarted)
			} else if s.wantEvents(EventRefused); !errors.Is(s.events[0].Err, tt.refusal) {
				t.Errorf("refused because of %v", s.events[0].Err)
			}
		})
	}
}

// A site that is also used at another host than that of its RedirectURL is told so when a login
// begins there, and not by a callback without a cookie.
func TestTheLoginBeginsWhereItEnds(t *testing.T) {
	for origin, begins := range map[string]bool{
		"https://app.test": true, "https://APP.test:443": true, "http://app.test:8080": true, "null": true, "": true,
		"https://www.app.test": false, "http://127.0.0.1:8080": false, "http://[::1]": false,
	} {
		t.Run(origin, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 1, nil)
			b := s.surfer("ann")
			req := form("/connect")
			req.Header.Set("Origin", origin)
			v := b.do(req, always)
			if begun(v) != begins {
				t.Fatalf("HTTP %d, %v", v.status, v.header)
			}
			if says := s.lastError(); !begins && (v.status != http.StatusInternalServerError || !strings.Contains(says, "would end at app.test") || !strings.Contains(s.log.String(), "level=WARN")) {
				t.Errorf("HTTP %d, and whoever runs the site is told %q", v.status, says)
			}
		})
	}
}

// An application that cannot tell who is signed in begins nothing, and says so.
func TestW02UserUnknown(t *testing.T) {
	for name, tt := range map[string]struct {
		user   func(*http.Request) (string, error)
		status int
	}{
		"sessions are down": {func(*http.Request) (string, error) { return "", errors.New("sessions are down") }, 503},
		"a zero byte":       {func(*http.Request) (string, error) { return "ann\x00work", nil }, 500},
		"endless":           {func(*http.Request) (string, error) { return strings.Repeat("a", 300), nil }, 500},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.User = tt.user })
			if v := s.surfer("ann").do(form("/connect"), always); v.status != tt.status || begun(v) {
				t.Errorf("HTTP %d, %v", v.status, v.header)
			}
		})
	}
}

// W03, W04, W05, W06, W07: what is sent to the provider is new each time, protected by PKCE,
// and has nothing of the request, the user or the page in it.
func TestW03RequestIsFresh(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	seen := map[string]bool{}
	for range 100 {
		b := s.surfer("ann-of-accounting")
		b.header = http.Header{"X-Forwarded-Host": {"evil.example"}, "Forwarded": {"host=evil.example"}, "X-Forwarded-Proto": {"http"}}
		req := form("/connect?state=mine&nonce=mine&code_verifier=mine&redirect_uri=https://evil.example/", "return", "/secret-page", "label", "of-work", "state", "mine")
		v := b.do(req, always)
		if v.status != http.StatusSeeOther {
			t.Fatalf("HTTP %d", v.status) // W07
		}
		q := v.url.Query()
		if q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" || q.Has("response_mode") { // W04, W34
			t.Errorf("the request is %s", v.url)
		}
		if q.Get("redirect_uri") != appURL+"/callback" { // W06
			t.Errorf("the redirect URI is %s", q.Get("redirect_uri"))
		}
		for _, word := range []string{"mine", "accounting", "secret-page", "of-work", "evil"} { // W05
			if strings.Contains(v.url.String(), word) {
				t.Errorf("the address has %q in it: %s", word, v.url)
			}
		}
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if x := q.Get(name); seen[x] || len(x) < 22 {
				t.Fatalf("%s is %q, which is not new or too short", name, x)
			}
			seen[q.Get(name)] = true
		}
	}
}

// A readOnly store cannot be written.
type readOnly struct{ *tokencache.Memory }

func (readOnly) Preflight(context.Context, string, int) error { return tokencache.ErrUnavailable }

// W09: whoever is sent to the provider can be stored.
func TestW09StoreIsProbedFirst(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 0, nil)
	s.store = readOnly{new(tokencache.Memory)}
	s.replicas = append(s.replicas, s.replica(s.srv, nil))
	b := s.surfer("ann")
	v := b.do(form("/connect"), always)
	b.wantPage(v, http.StatusServiceUnavailable, "cannot store it now")
	if begun(v) {
		t.Error("the login has begun")
	}
}

// W09: a provider that wants the parameters pushed gets them so.
func TestW09PushedRequest(t *testing.T) {
	var pushed url.Values
	par := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		pushed = r.PostForm
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"request_uri": "urn:ietf:params:oauth:request_uri:1", "expires_in": 60})
	}))
	defer par.Close()
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Provider.PARURL, c.Provider.RequirePAR = par.URL, true })
	q := s.surfer("ann").start().Query()
	if len(q) != 2 || q.Get("request_uri") != "urn:ietf:params:oauth:request_uri:1" || q.Get("client_id") != "client" {
		t.Errorf("the browser carries %v", q)
	}
	if pushed.Get("code_challenge") == "" || pushed.Get("state") == "" || pushed.Get("redirect_uri") != appURL+"/callback" {
		t.Errorf("pushed was %v", pushed)
	}
}

// What a cookie cannot hold is refused as the visitor's doing, before anything is sent: whoever
// runs the site can do nothing about it.
func TestW17TooLongForACookie(t *testing.T) {
	par := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the parameters were pushed") }))
	defer par.Close()
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Provider.PARURL, c.Provider.RequirePAR = par.URL, true })
	b := s.surfer("ann")
	v := b.do(form("/connect", "return", "/"+strings.Repeat("r", 250), "label", strings.Repeat("l", 250)), always)
	b.wantPage(v, http.StatusBadRequest, "more than can be remembered")
	if says := s.lastError(); begun(v) || !strings.Contains(says, "shorter return address") || strings.Contains(s.log.String(), "level=WARN") {
		t.Errorf("%v, %s: %s", v.header, says, s.log.String())
	}
}

// beginning is a replica whose /begin begins what the test says, and shows the error.
func beginning(t *testing.T, s *site, start func() Start) {
	t.Helper()
	for _, r := range s.replicas {
		r.mux.HandleFunc("/begin", func(w http.ResponseWriter, req *http.Request) {
			if err := r.web.Begin(w, req, start()); err != nil {
				w.WriteHeader(http.StatusTeapot)
				fmt.Fprint(w, err)
			}
		})
	}
}

// W10: a start has parameters of its own, and none that belong to the flow itself.
func TestW10Parameters(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		c.AuthParams = url.Values{"prompt": {"login"}, "claims": {`{"id_token":{"acr":null}}`}}
	})
	var start Start
	beginning(t, s, func() Start { return start })
	b := s.surfer("ann")
	for name, value := range map[string]string{"prompt": "consent", "login_hint": "ann@example.com", "acr_values": "gold", "max_age": "300", "ui_locales": "de"} {
		start = Start{AuthParams: url.Values{name: {value}}}
		if v := b.do(get("/begin"), always); v.status != http.StatusSeeOther || v.url.Query().Get(name) != value {
			t.Errorf("%s: HTTP %d to %s: %s", name, v.status, v.url, v.body)
		}
	}
	start = Start{Scopes: []string{"files", "api"}, AuthParams: url.Values{"claims": {`{"userinfo":{"email":null}}`}}}
	v := b.do(get("/begin"), always)
	if got := v.url.Query().Get("scope"); got != "api openid files" {
		t.Errorf("asked for the scopes %q", got)
	}
	if got := v.url.Query().Get("claims"); got != `{"id_token":{"acr":null},"userinfo":{"email":null}}` {
		t.Errorf("asked for the claims %s", got)
	}
	if got := v.url.Query().Get("prompt"); got != "login" {
		t.Errorf("prompt is %q", got)
	}
	for _, name := range append(protocolParams[:], "resource", "audience") {
		start = Start{AuthParams: url.Values{name: {"x"}}}
		if v := b.do(get("/begin"), always); v.status != http.StatusTeapot || begun(v) || !strings.Contains(v.body, name) {
			t.Errorf("%s: HTTP %d, %s", name, v.status, v.body)
		}
	}
	for name, bad := range map[string]Start{
		"Return": {Return: "https://evil.example/"}, "Label": {Label: "a\x00b"}, "UTF-8": {Label: "\xff"}, "claims": {AuthParams: url.Values{"claims": {"["}}},
		"does not fit into a cookie": {Return: "/" + strings.Repeat("r", 250), Label: strings.Repeat("l", 250)},
	} {
		start = bad
		if v := b.do(get("/begin"), always); v.status != http.StatusTeapot || begun(v) || !strings.Contains(v.body, name) {
			t.Errorf("%s: HTTP %d, %s", name, v.status, v.body)
		}
	}
}

// What is wrong is told before anything begins, by the field that has to be changed.
func TestWebConfigErrors(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 0, nil)
	for name, tt := range map[string]struct {
		change func(*WebConfig)
		field  string
		says   string
	}{
		"no provider":       {func(c *WebConfig) { c.Provider = nil }, "WebConfig.Provider", "set it"},
		"no endpoint":       {func(c *WebConfig) { c.Endpoint = nil }, "WebConfig.Endpoint", "set it"},
		"no pool":           {func(c *WebConfig) { c.Pool = nil }, "WebConfig.Pool", "set it"},
		"no cache":          {func(c *WebConfig) { c.Cache = nil }, "WebConfig.Cache", "set it"},
		"no user":           {func(c *WebConfig) { c.User = nil }, "WebConfig.User", "signed in"},
		"no key":            {func(c *WebConfig) { c.Keys = nil }, "WebConfig.Keys", "32 bytes"},
		"a short key":       {func(c *WebConfig) { c.Keys = [][]byte{cookieKey, []byte("password")} }, "WebConfig.Keys", "no key"},
		"plain http":        {func(c *WebConfig) { c.RedirectURL = "http://app.example.com/callback" }, "WebConfig.RedirectURL", "use https"},
		"no redirect URL":   {func(c *WebConfig) { c.RedirectURL = "" }, "WebConfig.RedirectURL", "set it"},
		"a path":            {func(c *WebConfig) { c.RedirectURL = "/callback" }, "WebConfig.RedirectURL", "absolute"},
		"a fragment":        {func(c *WebConfig) { c.RedirectURL = appURL + "/callback#x" }, "WebConfig.RedirectURL", "fragment"},
		"a query":           {func(c *WebConfig) { c.RedirectURL = appURL + "/callback?x=1" }, "WebConfig.RedirectURL", "query"},
		"another site":      {func(c *WebConfig) { c.Home = "//evil.example" }, "WebConfig.Home", "path of this site"},
		"no time":           {func(c *WebConfig) { c.Timeout = -1 }, "WebConfig.Timeout", "positive"},
		"all the time":      {func(c *WebConfig) { c.Timeout = 1 << 60 }, "WebConfig.Timeout", "an hour"},
		"state":             {func(c *WebConfig) { c.AuthParams = url.Values{"state": {"x"}} }, "WebConfig.AuthParams", "remove state"},
		"another provider":  {func(c *WebConfig) { c.Provider.TokenURL = "https://other.example/token" }, "WebConfig.Endpoint", "another provider"},
		"no page to log in": {func(c *WebConfig) { c.Provider.AuthURL = "" }, "WebConfig.Provider", "AuthURL"},
		"no PKCE":           {func(c *WebConfig) { c.Provider.NoPKCE = true }, "WebConfig.Provider", "PKCE with S256"},
		"an unsafe page":    {func(c *WebConfig) { c.Provider.AuthURL = "http://login.example.com/" }, "WebConfig.Provider", "use https"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.config(s.srv)
			tt.change(&cfg)
			_, err := NewWeb(cfg)
			wantError(t, err, transport.ErrMisconfigured, tt.says)
			if e := err.(*transport.Error); e.Field != tt.field {
				t.Errorf("the field is %q, want %q", e.Field, tt.field)
			}
		})
	}
	for _, good := range []string{"https://app.example.com", "http://localhost:8080/callback", "http://127.0.0.1:8080/callback", "http://[::1]/callback"} {
		cfg := s.config(s.srv)
		cfg.RedirectURL = good
		if _, err := NewWeb(cfg); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

// A Pool that keeps the logins of another client is noticed before a user is sent away.
func TestWebOfAnotherPool(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 0, nil)
	other := s.config(newProvider(t, oauthtest.Config{})).Pool
	s.replicas = append(s.replicas, s.replica(s.srv, func(c *WebConfig) { c.Pool = other }))
	if v := s.surfer("ann").do(form("/connect"), always); v.status != http.StatusInternalServerError || begun(v) {
		t.Errorf("HTTP %d, %v", v.status, v.header)
	}
	if err := s.events[0].Err; !strings.Contains(err.Error(), "WebConfig.Pool") && !strings.Contains(err.Error(), "Config.Pool") {
		t.Errorf("the error is %v", err)
	}
}
