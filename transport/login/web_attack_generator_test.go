package login

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A gallery is where changed answers are tried: at an application with two honest providers,
// of which only the first sends iss, and a malicious one.
type gallery struct {
	*battlefield
	webs       map[string]*Web // of the honest ones
	users      [2]string       // of this round
	challenges map[string]bool // that were sent so far
	known      map[string]int  // secrets of each provider at the end of the last round
	last       *http.Response  // to a shot
}

func newGallery(t *testing.T, seed uint64) *gallery {
	f := &gallery{battlefield: newBattlefield(t, seed), webs: map[string]*Web{}, challenges: map[string]bool{}, known: map[string]int{}}
	f.webs[""] = f.replicas[0].web
	f.webs["/plain"] = f.replica(f.plain, func(c *WebConfig) { c.RedirectURL, c.Provider.SendsIss = appURL+"/plain/callback", false }).web
	return f
}

func choose[T any](f *gallery, from ...T) T { return pick(f.battlefield, from...) }

func (f *gallery) servers() map[string]*oauthtest.Server {
	return map[string]*oauthtest.Server{"": f.srv, "/plain": f.plain, "/evil": f.evil}
}

// bring begins an attempt of a user at a provider, and brings the answer as far as here.
func (f *gallery) bring(user, path string) *arrival {
	b := f.surfer(user)
	v := b.do(form(path+"/connect"), always)
	request := must(url.Parse(v.url.String() + "&login_hint=" + user))
	answer := b.consent(request).Query()
	if q := request.Query(); q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || f.challenges[q.Get("code_challenge")] || len(answer.Get("state")) < 26 {
		f.t.Error("the request has no challenge or state that is new")
	} else {
		f.challenges[q.Get("code_challenge")] = true
	}
	c := b.cookies()
	if len(c) != 1 || answer.Get("code") == "" {
		f.t.Fatalf("%d cookies; the answer has a code: %v", len(c), answer.Has("code"))
	}
	return &arrival{user: user, path: path, srv: f.servers()[path], sendsIss: path == "", code: answer.Get("code"), state: answer.Get("state"), cookieName: c[0].Name, cookieSealed: c[0].Value}
}

// genuine is the answer as it comes from the provider.
func (b *arrival) genuine() *shot {
	return &shot{begun: b, method: http.MethodGet, path: b.path + "/callback", user: b.user, header: http.Header{},
		params:  []param{{"code", b.code}, {"iss", b.srv.URL()}, {"state", b.state}},
		cookies: []*http.Cookie{{Name: b.cookieName, Value: b.cookieSealed}}}
}

// send sends it, to a replica, and returns the answer. No redirect is followed.
func (f *gallery) send(s *shot) *http.Response {
	var query []string
	for _, p := range s.params {
		query = append(query, f.encode(p.name)+"="+f.encode(p.value))
	}
	if s.junk != "" {
		query = append(query, s.junk)
	}
	req := get(s.path + "?" + strings.Join(query, "&"))
	req.Method, req.Header = s.method, s.header.Clone()
	var cookies []string
	for _, c := range s.cookies {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	if s.user != "" {
		cookies = append(cookies, "user="+s.user)
	}
	if len(cookies) > 0 {
		req.Header.Set("Cookie", strings.Join(cookies, "; "))
	}
	f.last = f.serve(req)
	return f.last
}

// encode encodes text for a query, in one of the ways in which that can be done.
func (f *gallery) encode(text string) string {
	if f.rand.IntN(4) > 0 {
		return url.QueryEscape(text)
	}
	encoded := ""
	for _, b := range []byte(text) {
		encoded += fmt.Sprintf("%%%02x", b)
	}
	return encoded
}

// safe checks what no answer may do, nor the page that it leads to.
func (f *gallery) safe(s *shot, resp *http.Response) {
	f.t.Helper()
	to := resp.Header.Get("Location")
	if resp.StatusCode >= 500 && !s.speculative() {
		f.t.Errorf("%q: HTTP %d", s.what, resp.StatusCode)
	}
	if to == "" {
		return
	}
	if to[0] != '/' || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n") || strings.Contains(to, "code=") || strings.Contains(to, "evil.") {
		f.t.Errorf("%q: the browser is sent to %q", s.what, to)
		return
	}
	next := get(to)
	for _, c := range resp.Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-Http-login-") || !c.Secure || !c.HttpOnly || c.Domain != "" || c.Path != "/" {
			f.t.Errorf("%q: the cookie %s is set", s.what, c.Name)
		}
		next.AddCookie(c)
	}
	page := f.serve(next)
	body := must(io.ReadAll(page.Body))
	if page.StatusCode >= 500 && page.StatusCode != http.StatusServiceUnavailable || page.Header.Get("Location") != "" || bytes.Contains(body, []byte("<script")) || bytes.Contains(body, []byte("<img")) {
		f.t.Errorf("%q: the page is HTTP %d: %s", s.what, page.StatusCode, body)
	}
}

// granted counts the codes that have brought tokens.
func (f *gallery) granted() map[string]int {
	n := map[string]int{}
	for path, srv := range f.servers() {
		c := srv.Counts()
		n[path] = c.TokenRequests - c.InvalidGrants
	}
	return n
}

// subject is whose login at the provider is stored for the user, or "".
func (f *gallery) subject(user, path string) string {
	web := f.webs[path]
	key := web.key
	key.Account = PoolAccount(user, "")
	rec, _, err := web.cfg.Cache.Load(f.t.Context(), key)
	if errors.Is(err, tokencache.ErrNotFound) {
		return ""
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return AccountOf(rec).Subject
}

// again is a shot that has won, a second time: from a browser that has not got the first
// answer, and from one that has.
func (f *gallery) again(s *shot) []*shot {
	same, later := *s, *s
	same.what, later.what = append(s.what, "again"), append(s.what, "again, later")
	later.cookies = f.last.Cookies()
	return []*shot{&same, &later}
}

// silent checks that no browser and no event was told a secret in this round.
func (f *gallery) silent(s *shot) {
	for _, e := range f.events {
		fmt.Fprintf(&f.seen, "%+v %v\n", e, e.Err)
	}
	for path, srv := range f.servers() {
		secrets := srv.Secrets()
		if containsAny(f.seen.String(), secrets[f.known[path]:]) {
			f.t.Errorf("%q: a browser or an event was told a secret", s.what)
		}
		f.known[path] = len(secrets)
	}
	f.events = nil
	f.seen.Reset()
}

// A thousand answers are changed at random, in up to three ways. A model says which of them
// still are what the provider has sent to this browser and this user. These bring a login,
// the others nothing, and the genuine answer that comes after them is as good as before.
func TestThousandChangedAnswers(t *testing.T) {
	t.Parallel()
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	const seed = 17
	f := newGallery(t, seed)
	won, final, refused := 0, 0, 0
	for i := range rounds {
		f.users = [2]string{fmt.Sprint("victim-", i), fmt.Sprint("attacker-", i)}
		s := f.bring(choose(f, f.users[:]...), choose(f, "", "/plain")).genuine()
		s.other = f.bring(choose(f, f.users[:]...), choose(f, "", "/plain"))
		for range 1 + f.rand.IntN(3) {
			c := choose(f, changes...)
			s.what = append(s.what, c.name)
			c.do(f, s)
		}
		want, logins := f.granted(), map[string]bool{}
		check := func(s *shot) {
			t.Helper()
			resp := f.send(s)
			for _, b := range []*arrival{s.begun, s.other} {
				if s.wins(b) {
					want[b.path]++
					logins[b.user+b.path] = true
				}
			}
			if got := f.granted(); !maps.Equal(got, want) {
				t.Fatalf("%d, %q: codes brought tokens: %v, want %v", i, s.what, got, want)
			}
			if f.safe(s, resp); len(resp.Cookies()) > 0 && !s.fits(s.begun) && !s.fits(s.other) {
				t.Errorf("%d, %q: refused, with a cookie", i, s.what)
			}
		}
		check(s)
		if won := len(logins) > 0; won { // The same again leads on, and brings nothing more.
			for _, again := range f.again(s) {
				if to := f.send(again).Header.Get("Location"); to != "/" || !maps.Equal(f.granted(), want) {
					t.Fatalf("%d, %q: the browser is sent to %q; codes brought tokens: %v, want %v", i, again.what, to, f.granted(), want)
				}
			}
		}
		switch {
		case len(logins) > 0:
			won++
		case s.fits(s.begun), s.fits(s.other):
			final++
		default:
			refused++
			g := s.begun.genuine()
			g.other, g.what = s.other, append(s.what, "then the genuine answer")
			if check(g); !logins[s.begun.user+s.begun.path] {
				t.Fatalf("%d, %q: no login", i, g.what)
			}
		}
		f.silent(s)
		for path := range f.webs {
			for _, user := range f.users {
				if subject := f.subject(user, path); (subject != "") != logins[user+path] || subject != "" && subject != user {
					t.Fatalf("%d, %q: %s has the login of %q", i, s.what, user, subject)
				}
			}
		}
	}
	for path, srv := range f.servers() {
		if c := srv.Counts(); c.Reuses != 0 || c.FamiliesRevoked != 0 || path == "/evil" && c.TokenRequests != 0 {
			t.Errorf("%q: the provider has counted %+v", path, c)
		}
	}
	t.Logf("%d answers: %d brought a login, as they must, %d ended their attempt, %d were refused", rounds, won, final, refused)
	if won < rounds/20 || final < rounds/50 || refused < rounds/2 {
		t.Error("the attacks are one-sided")
	}
}
