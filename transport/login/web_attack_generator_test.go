package login

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

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

// A shot is a request to Callback, made of a genuine answer by changing what an attacker
// can change. It also says, by a model of its own that knows nothing of the code, what a
// genuine answer still needs.
type shot struct {
	begun, other *arrival // an attempt, and another one from which parts are taken

	method, path string
	params       []param
	junk         string // what is appended to the query
	cookies      []*http.Cookie
	user         string
	header       http.Header

	what []string // that was changed
}

type param struct{ name, value string }

// An arrival is a genuine answer that has come back from the provider, and is not used yet.
type arrival struct {
	user, path   string
	srv          *oauthtest.Server
	sendsIss     bool
	code, state  string
	cookieName   string
	cookieSealed string
}

func (s *shot) set(name string, values ...string) {
	s.params = slices.DeleteFunc(s.params, func(p param) bool { return p.name == name })
	for _, v := range values {
		s.params = append(s.params, param{name, v})
	}
}

func (s *shot) get(name string) (values []string) {
	for _, p := range s.params {
		if p.name == name {
			values = append(values, p.value)
		}
	}
	return values
}

// fits reports whether the browser, the user and the address are those of the attempt and
// the answer is from its provider. It is final then, whatever it says.
func (s *shot) fits(b *arrival) bool {
	is := func(name, value string) bool { return slices.Equal(s.get(name), []string{value}) }
	sealed := slices.ContainsFunc(s.cookies, func(c *http.Cookie) bool {
		return c.Name == b.cookieName && strings.TrimRight(c.Value, " ") == b.cookieSealed // RFC 6265 section 5.2
	})
	_, err := url.ParseQuery(s.junk)
	return s.method == http.MethodGet && !s.speculative() && s.path == b.path+"/callback" && err == nil &&
		is("state", b.state) && (is("iss", b.srv.URL()) || len(s.get("iss")) == 0 && !b.sendsIss) &&
		len(s.get("code")) <= 1 && len(s.get("error")) <= 1 && sealed && s.user == b.user
}

// wins reports whether the answer brings the login of the attempt.
func (s *shot) wins(b *arrival) bool {
	return s.fits(b) && slices.Equal(s.get("code"), []string{b.code}) && strings.Join(s.get("error"), "") == ""
}

func (s *shot) speculative() bool {
	for _, name := range []string{"Purpose", "Sec-Purpose", "X-Moz", "X-Purpose"} {
		if s.header.Get(name) != "" {
			return true
		}
	}
	return false
}

// A change is something that an attacker does to a request.
type change struct {
	name string
	do   func(f *gallery, s *shot)
}

// alter returns a value that is almost the given one.
func (f *gallery) alter(value string) string {
	if value == "" {
		return "x"
	}
	i := f.rand.IntN(len(value))
	flipped := []byte(value)
	flipped[i] ^= 1
	return choose(f, value[:i], value[i+1:]+"x", value+"A", value+" ", " "+value, strings.ToUpper(value)+"0", string(flipped), value+"\x00", value+","+value, value+"/", "", "null", strings.Repeat(value, 20))
}

func (s *shot) cookie() *http.Cookie {
	i := slices.IndexFunc(s.cookies, func(c *http.Cookie) bool { return c.Name == s.begun.cookieName })
	if i < 0 {
		return &http.Cookie{}
	}
	c := *s.cookies[i]
	s.cookies = slices.Clone(s.cookies)
	s.cookies[i] = &c
	return &c
}

var changes = []change{
	{"the other's code", func(_ *gallery, s *shot) { s.set("code", s.other.code) }},
	{"the other's state", func(_ *gallery, s *shot) { s.set("state", s.other.state) }},
	{"the other's code and state", func(_ *gallery, s *shot) { s.set("code", s.other.code); s.set("state", s.other.state) }},
	{"the other's issuer", func(_ *gallery, s *shot) { s.set("iss", s.other.srv.URL()) }},
	{"the other's address", func(_ *gallery, s *shot) { s.path = s.other.path + "/callback" }},
	{"the malicious provider's address", func(_ *gallery, s *shot) { s.path = "/evil/callback" }},
	{"the malicious provider's issuer", func(f *gallery, s *shot) { s.set("iss", f.evil.URL()) }},
	{"a parameter is almost right", func(f *gallery, s *shot) {
		name := choose(f, "code", "state", "iss")
		s.set(name, f.alter(strings.Join(s.get(name), "")))
	}},
	{"a parameter is missing", func(f *gallery, s *shot) { s.set(choose(f, "code", "state", "iss")) }},
	{"a parameter comes twice", func(f *gallery, s *shot) {
		name := choose(f, "code", "state", "iss")
		values := append(s.get(name), choose(f, "x", "", strings.Join(s.get(name), "")))
		f.rand.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		s.set(name, values...)
	}},
	{"an error", func(f *gallery, s *shot) {
		s.set("error", choose(f, "access_denied", "server_error", "login_required", "", "<script>alert(1)</script>", "x\r\nSet-Cookie: a=b", strings.Repeat("x", 3000)))
		s.set("error_description", choose(f, "<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "\u202eevil", strings.Repeat("y", 3000)))
	}},
	{"an error without a code", func(f *gallery, s *shot) {
		s.set("code")
		s.set("error", choose(f, "access_denied", "invalid_scope", "unknown"))
	}},
	{"two errors", func(_ *gallery, s *shot) { s.set("error", "access_denied", "") }},
	{"no cookie", func(_ *gallery, s *shot) { s.cookies = nil }},
	{"the other's cookie", func(_ *gallery, s *shot) {
		s.cookies = []*http.Cookie{{Name: s.other.cookieName, Value: s.other.cookieSealed}}
	}},
	{"the other's cookie, renamed", func(_ *gallery, s *shot) { s.cookie().Value = s.other.cookieSealed }},
	{"the cookie under the other's name", func(_ *gallery, s *shot) { s.cookie().Name = s.other.cookieName }},
	{"the cookie under a weaker name", func(f *gallery, s *shot) {
		c := s.cookie()
		c.Name = choose(f, strings.TrimPrefix(c.Name, "__Host-Http-"), strings.Replace(c.Name, "__Host-Http-", "__Host-", 1), strings.ToLower(c.Name), "stayauth-login-"+strings.TrimPrefix(c.Name, "__Host-Http-login-"))
	}},
	{"a cookie that is almost right", func(f *gallery, s *shot) { c := s.cookie(); c.Value = f.alter(c.Value) }},
	{"a cookie with another time", func(f *gallery, s *shot) {
		c := s.cookie()
		_, sealed, _ := strings.Cut(c.Value, ".")
		c.Value = choose(f, "0", "zzzzzz", "", "-1") + "." + sealed
	}},
	{"a cookie that the attacker has sealed", func(f *gallery, s *shot) {
		own := f.webs[s.begun.path].cookies
		own.keys = [][]byte{bytes.Repeat([]byte{7}, 32)}
		sealed, err := own.seal(strings.TrimPrefix(s.begun.cookieName, own.prefix), &attempt{State: s.begun.state, User: userHash(s.begun.state, s.user), End: 1 << 40, Outcome: new(outcome)}, time.Now())
		if err != nil {
			f.t.Fatal(err)
		}
		s.cookie().Value = sealed
	}},
	{"somebody else is signed in", func(f *gallery, s *shot) {
		s.user = choose(f, f.users[0], f.users[1], "", s.user+"x", strings.ToUpper(s.user), s.user+"/label", "bystander")
	}},
	{"another method", func(f *gallery, s *shot) {
		s.method = choose(f, "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "TRACE")
	}},
	{"a speculative load", func(f *gallery, s *shot) {
		s.header.Set(choose(f, "Purpose", "Sec-Purpose", "X-Moz", "X-Purpose"), choose(f, "prefetch", "Prefetch", "prefetch;prerender", "prefetch; anonymous-client-ip", "preview", "instant prerender"))
	}},
	{"a query that is none", func(f *gallery, s *shot) { s.junk = choose(f, "a=%zz", ";x=1", "%=", "a;b=c", "code=%") }},

	// These change nothing.
	{"harmless: forged headers", func(f *gallery, s *shot) {
		for _, h := range [][2]string{{"X-Forwarded-Host", "evil.example"}, {"X-Forwarded-Proto", "http"}, {"Forwarded", "host=evil.example"}, {"X-Original-Url", "/evil"}, {"X-Rewrite-Url", "/evil"},
			{"Referer", "https://evil.example/"}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"X-Http-Method-Override", "POST"}, {"X-Forwarded-Prefix", "//evil.example"}} {
			if f.rand.IntN(2) == 0 {
				s.header.Set(h[0], h[1])
			}
		}
	}},
	{"harmless: more parameters", func(f *gallery, s *shot) {
		s.params = append(s.params, param{choose(f, "realmId", "Code", "state[]", "iss ", "user", "return", "label", "refused", "ended"), choose(f, "1", "//evil.example", s.other.code)})
	}},
	{"harmless: another order", func(f *gallery, s *shot) {
		f.rand.Shuffle(len(s.params), func(i, j int) { s.params[i], s.params[j] = s.params[j], s.params[i] })
	}},
	{"harmless: cookies besides", func(f *gallery, s *shot) {
		besides := []*http.Cookie{{Name: s.begun.cookieName, Value: "x.AAAA"}, {Name: s.other.cookieName, Value: s.other.cookieSealed}, {Name: "login-x", Value: "y"}, {Name: s.begun.cookieName + "x", Value: s.begun.cookieSealed}}
		s.cookies = append(append(slices.Clone(besides[:f.rand.IntN(len(besides)+1)]), s.cookies...), choose(f, besides...))
	}},
}

// bring begins an attempt of a user at a provider, and brings the answer as far as here.
func (f *gallery) bring(user, path string) *arrival {
	b := f.surfer(user)
	v := b.do(form(path+"/connect"), always)
	request := must(url.Parse(v.url.String() + "&login_hint=" + user))
	answer := b.consent(request).Query()
	if q := request.Query(); q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || f.challenges[q.Get("code_challenge")] || len(answer.Get("state")) < 26 {
		f.t.Errorf("the request is %s", request)
	} else {
		f.challenges[q.Get("code_challenge")] = true
	}
	c := b.cookies()
	if len(c) != 1 || answer.Get("code") == "" {
		f.t.Fatalf("%d cookies; the answer is %v", len(c), answer)
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
	return f.serve(req)
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
		f.t.Errorf("%q: the page is HTTP %d at %s: %s", s.what, page.StatusCode, to, body)
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
				t.Fatalf("%d, %q: codes brought tokens: %v, want %v\n%+v\n%+v\n%+v", i, s.what, got, want, s, s.begun, s.other)
			}
			f.safe(s, resp)
		}
		check(s)
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
