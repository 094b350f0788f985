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
		got = append(got, user+":"+label)
		if a.Key.Account != PoolAccount(user, label) || a.Subject != "user" {
			t.Errorf("%+v", a)
		}
	}
	if strings.Join(got, " ") != "ann: ann:home ann:work" {
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
	req.Header.Set("Origin", dev)
	resp := s.serve(req)
	cookie := resp.Cookies()[0]
	v := browseUntil(resp.Header.Get("Location"), func(next *http.Request) bool { return next.URL.Host == "localhost:8080" })
	back := get(v.url.String())
	back.Header.Set("Cookie", "user=ann; "+cookie.Name+"="+cookie.Value)
	if resp := s.serve(back); resp.Header.Get("Location") != "/" || s.record("ann", "") == nil {
		t.Errorf("HTTP %d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
}
