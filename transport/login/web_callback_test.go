package login

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// W19, W34: only a GET that the user waits for has an effect, and what has none spoils
// nothing.
func TestW19OnlyTheUsersGetCounts(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	b := s.surfer("ann")
	answer := b.consent(b.start())
	for _, tt := range []struct {
		method, header, value string
		status                int
		says                  string
	}{
		{"HEAD", "", "", 405, ""},
		{"POST", "", "", 405, "response_mode"},
		{"PUT", "", "", 405, "only GET"},
		{"GET", "Sec-Purpose", "prefetch", 503, "in advance"},
		{"GET", "Sec-Purpose", "prefetch;prerender", 503, "in advance"},
		{"GET", "Purpose", "prefetch", 503, "in advance"},
		{"GET", "X-Moz", "prefetch", 503, "in advance"},
		{"GET", "X-Purpose", "preview", 503, "in advance"},
	} {
		req := get(answer.String())
		req.Method = tt.method
		if tt.header != "" {
			req.Header.Set(tt.header, tt.value)
		}
		v := b.do(req, always)
		if v.status != tt.status || !strings.Contains(v.body, tt.says) || len(v.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s %s: HTTP %d, %s", tt.method, tt.value, v.status, v.body)
		}
	}
	if n := s.srv.Counts().TokenRequests; n != 0 {
		t.Errorf("%d token requests before the user came", n)
	}
	b.wantApp(b.open(answer.String()), "/")
	if n := s.srv.Counts().TokenRequests; n != 1 {
		t.Errorf("%d token requests", n)
	}
}

// W20, W23: an answer is used in the browser that has begun, and for the user who has. In
// both directions: neither does a victim get the attacker's account, nor the attacker the
// victim's.
func TestW20LoginCSRF(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	victim, attacker := s.surfer("victim"), s.surfer("attacker")
	victims, attackers := victim.consent(victim.start()), attacker.consent(attacker.start())
	victim.wantPage(victim.open(attackers.String()), http.StatusBadRequest, "not started here")
	attacker.wantPage(attacker.open(victims.String()), http.StatusBadRequest, "not started here")
	// A cookie that has been carried over, with its answer, is bound to the user.
	u, _ := url.Parse(appURL)
	victim.jar.SetCookies(u, attacker.cookies())
	victim.wantPage(victim.open(attackers.String()), http.StatusForbidden, "Somebody else is signed in")
	s.surfer("").wantPage(s.surfer("").open(victims.String()), http.StatusBadRequest, "not started here")
	if n := s.srv.Counts().TokenRequests; n != 0 {
		t.Errorf("%d token requests", n)
	}
	victim.wantApp(victim.open(victims.String()), "/")
	attacker.wantApp(attacker.open(attackers.String()), "/")
}

// W23: who signs out, or in as somebody else, while the provider asks, gets no login of the
// first, who can still finish it.
func TestW23AnotherUserNow(t *testing.T) {
	for user, want := range map[string]struct {
		status int
		says   string
	}{"bob": {http.StatusForbidden, "Somebody else"}, "": {http.StatusUnauthorized, "not signed in"}} {
		s := newSite(t, oauthtest.Config{}, 1, nil)
		b := s.surfer("ann")
		answer := b.consent(b.start())
		b.signIn(user)
		b.wantPage(b.open(answer.String()), want.status, want.says)
		if n := s.srv.Counts().TokenRequests; n != 0 {
			t.Errorf("%d token requests", n)
		}
		b.signIn("ann")
		b.wantApp(b.open(answer.String()), "/")
		if s.record("bob", "") != nil || s.record("ann", "") == nil {
			t.Error("the wrong user is connected")
		}
	}
}

// W23: an application that cannot tell who is signed in uses nothing, and says whose fault
// that is.
func TestW23UserUnknown(t *testing.T) {
	down := false
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		user := c.User
		c.User = func(r *http.Request) (string, error) {
			if down {
				return "", errors.New("sessions are down")
			}
			return user(r)
		}
	})
	b := s.surfer("ann")
	answer := b.consent(b.start())
	down = true
	b.wantPage(b.open(answer.String()), http.StatusServiceUnavailable, "cannot tell who you are")
	down = false
	b.wantApp(b.open(answer.String()), "/")
}

// W21, W22: what does not fit the request is refused, without an exchange, and the genuine
// answer still counts (W18).
func TestW21Answers(t *testing.T) {
	for name, change := range map[string]func(q url.Values){
		"state twice":    func(q url.Values) { q.Add("state", q.Get("state")) },
		"code twice":     func(q url.Values) { q.Add("code", "other") },
		"iss twice":      func(q url.Values) { q.Add("iss", q.Get("iss")) },
		"error twice":    func(q url.Values) { q["error"] = []string{"a", "b"} },
		"another state":  func(q url.Values) { q.Set("state", "x") },
		"no state":       func(q url.Values) { q.Del("state") },
		"no code":        func(q url.Values) { q.Del("code") },
		"another issuer": func(q url.Values) { q.Set("iss", "https://evil.example") },
		"no issuer":      func(q url.Values) { q.Del("iss") },
		"an error of another": func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
			q.Set("iss", "https://evil.example")
		},
		"an error of who knows":     func(q url.Values) { q.Del("code"); q.Set("error", "access_denied"); q.Del("iss") },
		"an error, and no state":    func(q url.Values) { q.Del("state"); q.Set("error", "access_denied") },
		"an error, and a bad state": func(q url.Values) { q.Set("state", "x"); q.Set("error", "access_denied") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 2, nil)
			b := s.surfer("ann")
			genuine := b.consent(b.start())
			changed := *genuine
			q := changed.Query()
			change(q)
			changed.RawQuery = q.Encode()
			b.wantPage(b.open(changed.String()), http.StatusBadRequest, "was not")
			if n := s.srv.Counts().TokenRequests; n != 0 {
				t.Errorf("%d token requests", n)
			}
			b.wantApp(b.open(genuine.String()), "/")
		})
	}
}

// W22: mix-up. Of two providers that send no iss, each has a redirect URI of its own, and
// the answer of one that comes to that of the other is nothing to it.
func TestW22MixUp(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Provider.SendsIss = false })
	evil := newProvider(t, oauthtest.Config{})
	other := s.replica(evil, func(c *WebConfig) { c.Provider.SendsIss = false; c.RedirectURL = appURL + "/evil/callback" })
	s.replicas[0].mux.HandleFunc("/evil/connect", other.web.Connect)
	s.replicas[0].mux.HandleFunc("/evil/callback", other.web.Callback)
	b := s.surfer("ann")
	request := b.do(form("/evil/connect"), always).url
	// The malicious provider sends the browser on to the honest one, with its own request.
	q := request.Query()
	q.Set("redirect_uri", appURL+"/callback") // which the honest one insists on
	honest := s.srv.URL() + "/authorize?" + q.Encode()
	v := b.do(get(honest), func(next *http.Request) bool { return next.URL.Host == "app.test" })
	b.wantPage(b.open(v.url.String()), http.StatusBadRequest, "not started here")
	if n, m := s.srv.Counts().TokenRequests, evil.Counts().TokenRequests; n != 0 || m != 0 {
		t.Errorf("%d and %d token requests", n, m)
	}
}
