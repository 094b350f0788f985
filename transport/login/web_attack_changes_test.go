package login

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

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
