package login

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

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
	for range s.store.(*tokencache.Memory).List(t.Context(), "") {
		names++
	}
	if names != 2 { // bob's login and journal
		t.Errorf("%d entries are left", names)
	}
}

// W41: a form of which not everything can be read disconnects nothing: without its label, it
// would be another login.
func TestW41DisconnectsTheLoginThatIsMeant(t *testing.T) {
	post := func(target, contentType, body string) *http.Request {
		r := form(target)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", contentType)
		return r
	}
	const urlencoded = "application/x-www-form-urlencoded"
	for name, test := range map[string]struct {
		req    *http.Request
		status int
	}{
		"in the query":     {post("/disconnect?label=work", urlencoded, ""), http.StatusSeeOther},
		"bad escape":       {post("/disconnect", urlencoded, "label=wo%zzrk"), http.StatusBadRequest},
		"a bad query":      {post("/disconnect?label=wo%zzrk", urlencoded, ""), http.StatusBadRequest},
		"semicolon":        {post("/disconnect", urlencoded, "x=1;label=work"), http.StatusBadRequest},
		"too long":         {post("/disconnect", urlencoded, "x="+strings.Repeat("x", maxForm)+"&label=work"), http.StatusBadRequest},
		"no label":         {post("/disconnect", urlencoded, "label="+strings.Repeat("x", maxName+1)), http.StatusBadRequest},
		"no label begun":   {post("/connect", urlencoded, "label=%00"), http.StatusBadRequest},
		"JSON":             {post("/disconnect", "application/json", `{"label":"work"}`), http.StatusBadRequest},
		"no type":          {post("/disconnect", "", "label=work"), http.StatusBadRequest},
		"a bad type":       {post("/disconnect", "/;", "label=work"), http.StatusBadRequest},
		"half a multipart": {post("/disconnect", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"label\"\r\n\r\nwo"), http.StatusBadRequest},
		"multipart":        {post("/disconnect", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"label\"\r\n\r\nwork\r\n--x--\r\n"), http.StatusSeeOther},
	} {
		s := newSite(t, oauthtest.Config{}, 1, nil)
		b := s.surfer("ann")
		b.connect()
		b.connect("label", "work")
		if v := b.do(test.req, always); v.status != test.status {
			t.Errorf("%s: HTTP %d, want %d", name, v.status, test.status)
		}
		if s.record("ann", "") == nil {
			t.Errorf("%s: the login without a label has gone", name)
		}
		if got, want := s.record("ann", "work") == nil, test.status == http.StatusSeeOther; got != want {
			t.Errorf("%s: disconnected: %t", name, got)
		}
	}
}

// W47: what belongs to no user, such as the login of the application itself, is not erased
// with one.
func TestW47NobodyIsNotErased(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	web, pool := s.replicas[0].web, s.replicas[0].pool
	if err := pool.Source("").Login(t.Context(), s.srv.Login("service").Record()); err != nil {
		t.Fatal(err)
	}
	s.surfer("ann").connect("label", "work")
	for _, user := range []string{"", "ann\x00work"} {
		if err := Erase(t.Context(), user, web); err == nil {
			t.Errorf("%q: no error", user)
		}
		if accounts, err := web.Logins(t.Context(), user); err == nil || len(accounts) > 0 {
			t.Errorf("%q has %v, %v", user, accounts, err)
		}
	}
	if s.record("", "") == nil || s.record("ann", "work") == nil {
		t.Error("a login has gone")
	}
}
