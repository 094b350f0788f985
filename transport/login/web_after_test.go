package login

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// W36: a second login takes the place of the first, scopes included.
func TestW36SecondLoginReplaces(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	var start Start
	beginning(t, s, func() Start { return start })
	b := s.surfer("ann")
	b.connect()
	first := s.record("ann", "")
	start = Start{Scopes: []string{"files"}}
	b.wantApp(b.open(b.consent(b.do(get("/begin"), always).url).String()), "/")
	second := s.record("ann", "")
	if second.Scope != "api openid files" || second.LoginID == first.LoginID || second.Generation != 1 || !s.srv.Valid(string(first.RefreshToken)) {
		t.Errorf("%+v has replaced %+v", second, first)
	}
	s.wantEvents(EventStarted, EventConnected, EventStarted, EventReconnected)
	// A replica that still has the first in memory notices.
	for _, r := range s.replicas {
		token, err := r.pool.Source("ann").Status(t.Context())
		if err != nil || token.Scope != second.Scope {
			t.Errorf("a replica sees the scopes %q, %v", token.Scope, err)
		}
	}
}

// W37: the login of another user of the provider does not take the place of the first
// without a word.
func TestW37AnotherAccountOfTheProvider(t *testing.T) {
	for name, tt := range map[string]struct {
		accept func(*http.Request, *Result) error
		status int
	}{
		"by default":             {nil, http.StatusConflict},
		"the application agrees": {func(*http.Request, *Result) error { return nil }, http.StatusOK},
		"and looks": {func(_ *http.Request, res *Result) error {
			if res.Former != nil && AccountOf(res.Former).Subject != AccountOf(res.Record).Subject {
				return RefusedOtherAccount
			}
			return nil
		}, http.StatusConflict},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Accept = tt.accept })
			b := s.surfer("ann")
			as := func(account string) visit {
				return b.open(b.consent(must(url.Parse(b.start().String() + "&login_hint=" + account))).String())
			}
			b.wantApp(as("work@example.com"), "/")
			v := as("home@example.com")
			if v.status != tt.status {
				t.Errorf("HTTP %d: %s", v.status, v.body)
			}
			replaced := tt.status == http.StatusOK
			if home := s.srv.Current("home@example.com"); s.srv.Valid(home.RefreshToken) != replaced {
				t.Errorf("the login that was refused is alive: %v", !replaced)
			}
			want := "work@example.com"
			if replaced {
				want = "home@example.com"
			}
			if got := AccountOf(s.record("ann", "")).Subject; got != want {
				t.Errorf("%s is connected", got)
			}
			b.wantApp(as(want), "/")
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// W38: one user has several logins with a provider, and they are found without opening
// those of others.
func TestW38SeveralLogins(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	b := s.surfer("ann")
	for _, label := range []string{"", "work", "home"} {
		b.wantApp(b.connect("label", label), "/")
	}
	s.surfer("bob").connect("label", "work")
	s.surfer("ann-2").connect()
	web := s.replicas[1].web
	accounts, err := web.Logins(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range accounts {
		user, label := a.Key.Label()
		got = append(got, user+"/"+label)
		if a.Key.Account != PoolAccount(user, label) || a.Subject != "user" {
			t.Errorf("%+v", a)
		}
	}
	if strings.Join(got, " ") != "ann/ ann/home ann/work" {
		t.Errorf("the logins of ann are %q", got)
	}
	if n := s.srv.Counts().TokenRequests; n != 5 {
		t.Errorf("%d token requests", n)
	}
	// Each is renewed and ended by itself.
	b.wantApp(b.do(form("/disconnect", "label", "work"), never), "/")
	if accounts, err = web.Logins(t.Context(), "ann"); err != nil || len(accounts) != 2 {
		t.Errorf("%d are left, %v", len(accounts), err)
	}
	if accounts, err = web.Logins(t.Context(), "nobody"); err != nil || len(accounts) != 0 {
		t.Errorf("%d logins of nobody, %v", len(accounts), err)
	}
	// The list of all, for an administrator, has no journals in it.
	all, err := Accounts(t.Context(), web.cfg.Cache, tokencache.Key{})
	if err != nil || len(all) != 4 {
		t.Errorf("%d logins in all, %v", len(all), err)
	}
}

// W39: who is asked for more and does not agree, keeps what there was.
func TestW39MoreScopesAndCancel(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	var start Start
	beginning(t, s, func() Start { return start })
	b := s.surfer("ann")
	start = Start{Scopes: []string{"files"}}
	b.open(b.consent(b.do(get("/begin"), always).url).String())
	before := s.record("ann", "")

	start = Start{Scopes: []string{"mail"}, Return: "/mail"}
	request := b.do(get("/begin"), always).url
	if got := request.Query().Get("scope"); got != "api openid mail files" { // what was granted stays
		t.Errorf("asked for %q", got)
	}
	v := b.open(with(b.consent(request), "code", "", "error", "access_denied"))
	b.wantPage(v, http.StatusBadRequest, "did not allow", `href="/mail"`)
	if after := s.record("ann", ""); after.AccessToken != before.AccessToken || after.Scope != "api openid files" || !s.srv.Valid(string(after.RefreshToken)) {
		t.Errorf("the login is now %+v", after)
	}
	// An answer that leaves out the scope means: as asked for (RFC 6749 section 5.1).
	s.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) { delete(a, "scope") }))
	b.wantApp(b.open(b.consent(b.do(get("/begin"), always).url).String()), "/mail")
	if got := s.record("ann", "").Scope; got != "api openid mail files" {
		t.Errorf("granted is %q", got)
	}
	// Without more to ask for, the scopes are those of the Endpoint.
	start = Start{}
	if got := b.do(get("/begin"), always).url.Query().Get("scope"); got != "api openid" {
		t.Errorf("asked for %q", got)
	}
}

// W40: what a request met becomes a start with what is demanded. The same once more is an
// error, and no loop.
func TestW40Causes(t *testing.T) {
	challenge := func(header string) error {
		return transport.ParseChallenges(http.Header{"Www-Authenticate": {header}})[0]
	}
	for name, tt := range map[string]struct {
		cause error
		param string
		want  string
	}{
		"login required":     {fmt.Errorf("GET: %w", &transport.Error{Kind: transport.ErrLoginRequired}), "scope", "api openid"},
		"insufficient scope": {challenge(`Bearer error="insufficient_scope", scope="files mail"`), "scope", "api openid files mail"},
		"step-up":            {fmt.Errorf("GET: %w", challenge(`Bearer error="insufficient_user_authentication", acr_values="gold silver"`)), "acr_values", "gold silver"},
		"not so long ago":    {challenge(`Bearer error="insufficient_user_authentication", max_age="300"`), "max_age", "300"},
		"claims":             {challenge(`Bearer error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjpudWxsfX0="`), "claims", `{"access_token":{"nbf":null}}`},
		"claims of an error": {&transport.Error{Kind: transport.ErrLoginRequired, Claims: `{"access_token":{"nbf":null}}`}, "claims", `{"access_token":{"nbf":null}}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 2, nil)
			beginning(t, s, func() Start { return Start{Cause: tt.cause, Return: "/files"} })
			b := s.surfer("ann")
			request := b.do(get("/begin"), always)
			if got := request.url.Query().Get(tt.param); got != tt.want {
				t.Errorf("%s is %q, want %q", tt.param, got, tt.want)
			}
			b.wantApp(b.open(b.consent(request.url).String()), "/files")
			v := b.do(get("/begin"), always) // The request has met the same again.
			if v.status != http.StatusTeapot || begun(v) || !errors.Is(s.events[len(s.events)-1].Err, RefusedRepeated) {
				t.Errorf("HTTP %d, %s", v.status, v.body)
			}
			if !strings.Contains(b.do(form("/connect"), always).header.Get("Location"), "/authorize") {
				t.Error("the user cannot begin a login by hand")
			}
			other := s.surfer("bob")
			if !begun(other.do(get("/begin"), always)) {
				t.Error("another user cannot begin a login")
			}
		})
	}
	for name, err := range map[string]error{
		"an outage":      &transport.Error{Kind: transport.ErrUnavailable},
		"anything":       errors.New("anything"),
		"a bad token":    challenge(`Bearer error="invalid_token"`),
		"another scheme": challenge(`Basic realm="x"`),
		"no scope":       challenge(`Bearer error="insufficient_scope"`),
	} {
		s := newSite(t, oauthtest.Config{}, 1, nil)
		var got error
		s.replicas[0].mux.HandleFunc("/begin", func(w http.ResponseWriter, r *http.Request) {
			got = s.replicas[0].web.Begin(w, r, Start{Cause: err})
		})
		if v := s.surfer("ann").do(get("/begin"), always); begun(v) || got == nil || got.Error() != err.Error() {
			t.Errorf("%s: %v", name, got)
		}
		s.wantEvents()
	}
}

// W41: to disconnect is to revoke and then to remove, by a form of this site.
func TestW41Disconnect(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	b := s.surfer("ann")
	b.connect()
	rec := s.record("ann", "")
	for name, forged := range map[string]func(*http.Request){
		"another site":     func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"an older browser": func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
		"a link":           func(r *http.Request) { r.Method = http.MethodGet },
	} {
		req := form("/disconnect")
		forged(req)
		if v := b.do(req, always); v.status != http.StatusForbidden && v.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: HTTP %d", name, v.status)
		}
	}
	if v := s.surfer("").do(form("/disconnect"), always); v.status != http.StatusUnauthorized {
		t.Errorf("nobody: HTTP %d", v.status)
	}
	s.srv.Down()
	b.wantPage(b.do(form("/disconnect", "return", "/accounts"), never), http.StatusServiceUnavailable, "still connected", `href="/accounts"`)
	if s.record("ann", "") == nil {
		t.Fatal("the login has gone though the provider was not told")
	}
	s.srv.Up()
	for range 2 { // twice is fine
		b.wantApp(b.do(form("/disconnect", "return", "/accounts"), never), "/accounts")
		if s.record("ann", "") != nil || s.srv.Valid(string(rec.RefreshToken)) {
			t.Error("the login is still there")
		}
	}
	if v := b.do(form("/disconnect", "return", "//evil.example"), always); v.header.Get("Location") != "/" {
		t.Errorf("led to %s", v.header.Get("Location"))
	}
}

// W41: a provider that cannot be told: the user is told where to do it.
func TestW41NoRevocationEndpoint(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Endpoint.RevocationURL = "" })
	b := s.surfer("ann")
	b.connect()
	b.wantPage(b.do(form("/disconnect"), never), http.StatusOK, "disconnected here", "settings of your account", "Example")
	if s.record("ann", "") != nil {
		t.Error("the login is still there")
	}
	if e := s.events[len(s.events)-1]; e.Type != EventDisconnected || !errors.Is(e.Err, errors.ErrUnsupported) {
		t.Errorf("the event is %+v", e)
	}
}

// W42, W47: several providers on one site know nothing of one another, and a user is erased
// at all of them. What could not be is reported.
func TestW42EraseAtAllProviders(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	second := newProvider(t, oauthtest.Config{ClientID: "client-2"})
	other := s.replica(second, func(c *WebConfig) { c.RedirectURL = appURL + "/2/callback"; c.Provider.Name = "Second" })
	mux := s.replicas[0].mux
	mux.HandleFunc("/2/connect", other.web.Connect)
	mux.HandleFunc("/2/callback", other.web.Callback)
	mux.HandleFunc("/2/disconnect", other.web.Disconnect)
	webs := []*Web{s.replicas[0].web, other.web}
	stored := func(web *Web) int {
		accounts, err := web.Logins(t.Context(), "ann")
		if err != nil {
			t.Fatal(err)
		}
		return len(accounts)
	}
	b := s.surfer("ann")
	b.connect()
	b.connect("label", "work")
	// The answers crossed (W47): neither uses that of the other.
	one, two := b.consent(b.start()), b.consent(b.do(form("/2/connect"), always).url)
	before := s.srv.Counts().TokenRequests + second.Counts().TokenRequests
	b.wantPage(b.open(appURL+"/2/callback?"+one.RawQuery), http.StatusBadRequest, "not started here")
	b.wantPage(b.open(appURL+"/callback?"+two.RawQuery), http.StatusBadRequest, "not started here")
	if after := s.srv.Counts().TokenRequests + second.Counts().TokenRequests; after != before {
		t.Errorf("%d exchanges of crossed answers", after-before)
	}
	b.wantApp(b.open(two.String()), "/")
	b.wantApp(b.do(form("/disconnect"), never), "/") // of the first provider
	if stored(webs[0]) != 1 || stored(webs[1]) != 1 {
		t.Errorf("%d and %d logins are left", stored(webs[0]), stored(webs[1]))
	}
	s.surfer("bob").connect()
	second.Down()
	err := Erase(t.Context(), "ann", webs...)
	if err == nil || !strings.Contains(err.Error(), "Second is still connected") || strings.Contains(err.Error(), "Example") {
		t.Errorf("the error is %v", err)
	}
	if stored(webs[0]) != 0 || stored(webs[1]) != 1 {
		t.Errorf("%d and %d logins are left", stored(webs[0]), stored(webs[1]))
	}
	second.Up()
	if err := Erase(t.Context(), "ann", webs...); err != nil {
		t.Error(err)
	}
	if stored(webs[1]) != 0 || s.record("bob", "") == nil {
		t.Error("the wrong login was erased")
	}
	names := 0
	for range s.store.(*tokencache.Memory).List(t.Context()) {
		names++
	}
	if names != 2 { // bob's login and journal
		t.Errorf("%d entries are left", names)
	}
}

// W44: what happens is told, to those who count unauthorized attempts too, and no event
// holds a state, a code or a cookie.
func TestW44Events(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	b := s.surfer("ann")
	request := b.start("label", "work")
	cookie := b.cookies()[0].Value
	answer := b.consent(request)
	s.surfer("eve").open(answer.String())
	b.open(with(answer, "iss", "https://evil.example"))
	b.open(answer.String())
	b.connect("label", "work")
	b.open(with(b.consent(b.start()), "code", "", "error", "access_denied"))
	b.do(form("/disconnect", "label", "work"), never)
	s.wantEvents(EventStarted, EventRefused, EventRefused, EventConnected, EventStarted, EventReconnected, EventStarted, EventRefused, EventDisconnected)
	for i, want := range []error{nil, RefusedNotStarted, RefusedAnswer, nil, nil, nil, nil, transport.ErrLoginRequired, nil} {
		e := s.events[i]
		if want != nil && !errors.Is(e.Err, want) || want == nil && e.Err != nil || e.At.IsZero() || e.Key.Issuer != s.srv.URL() {
			t.Errorf("event %d is %+v, want %v", i, e, want)
		}
		said := fmt.Sprintf("%+v %v", e, e.Err)
		for _, secret := range append(s.srv.Secrets(), cookie, answer.Query().Get("state"), answer.Query().Get("code")) {
			if strings.Contains(said, secret) {
				t.Errorf("event %d says %s", i, said)
			}
		}
	}
	if log := s.log.String(); strings.Count(log, "level=DEBUG") != 8 || strings.Count(log, "level=WARN") != 1 || containsAny(log, []string{cookie, answer.Query().Get("state"), answer.Query().Get("code")}) {
		t.Errorf("the log is\n%s", log)
	}
	if user, label := s.events[3].Key.Label(); user != "ann" || label != "work" {
		t.Errorf("connected is %q, %q", user, label)
	}
}

// W45: the whole of it works over plain http on a loopback address, for development, and
// behind a proxy that changes the Host, as all other tests show.
func TestW45Development(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 0, nil)
	const dev = "http://localhost:8080"
	s.replicas = append(s.replicas, s.replica(s.srv, func(c *WebConfig) { c.RedirectURL = dev + "/callback" }))
	req := form("/connect")
	req.URL = must(url.Parse(dev + "/connect"))
	req.Header.Set("Cookie", "user=ann")
	resp := s.serve(req)
	cookie := resp.Cookies()[0]
	v := browseUntil(resp.Header.Get("Location"), func(next *http.Request) bool { return next.URL.Host == "localhost:8080" })
	back := get(v.url.String())
	back.Header.Set("Cookie", "user=ann; "+cookie.Name+"="+cookie.Value)
	if resp := s.serve(back); resp.Header.Get("Location") != "/" || s.record("ann", "") == nil {
		t.Errorf("HTTP %d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
}
