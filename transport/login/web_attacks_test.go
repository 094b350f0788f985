package login

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A battlefield is an application with an honest provider that sends iss, one that does
// not, and a malicious one; and a victim and an attacker, who are both its users.
type battlefield struct {
	*site
	t                *testing.T
	rand             *rand.Rand
	plain, evil      *oauthtest.Server
	victim, attacker *surfer
	paths            []string          // of the providers: "", "/plain", "/evil"
	answers          map[string]string // used ones, by the name of the user
}

func newBattlefield(t *testing.T, seed uint64) *battlefield {
	f := &battlefield{site: newSite(t, oauthtest.Config{Policy: oauthtest.StrictFamily}, 2, nil), t: t, rand: rand.New(rand.NewPCG(seed, 0)),
		paths: []string{"", "/plain", "/evil"}, answers: map[string]string{}}
	f.plain, f.evil = newProvider(t, oauthtest.Config{}), newProvider(t, oauthtest.Config{})
	for _, r := range f.replicas {
		for path, srv := range map[string]*oauthtest.Server{"/plain": f.plain, "/evil": f.evil} {
			other := f.replica(srv, func(c *WebConfig) {
				c.RedirectURL, c.Provider.SendsIss = appURL+path+"/callback", false
			})
			r.mux.HandleFunc(path+"/connect", other.web.Connect)
			r.mux.HandleFunc(path+"/callback", other.web.Callback)
			r.mux.HandleFunc(path+"/disconnect", other.web.Disconnect)
		}
	}
	f.victim, f.attacker = f.surfer("victim"), f.surfer("attacker")
	for _, b := range []*surfer{f.victim, f.attacker} {
		f.login(b, "")
	}
	return f
}

func (f *battlefield) name(b *surfer) string {
	if b == f.victim {
		return "victim"
	}
	return "attacker"
}

// begin begins a login at a provider, and returns its request for the person's account.
func (f *battlefield) begin(b *surfer, path string) *url.URL {
	f.t.Helper()
	v := b.do(form(path+"/connect"), always)
	if v.status != http.StatusSeeOther || v.url.Path != "/authorize" {
		f.t.Fatalf("HTTP %d: %s", v.status, v.body)
	}
	return must(url.Parse(v.url.String() + "&login_hint=" + f.name(b)))
}

// login is a genuine login, which works whatever was tried before.
func (f *battlefield) login(b *surfer, path string) {
	f.t.Helper()
	answer := b.consent(f.begin(b, path))
	b.wantApp(b.open(answer.String()), "/")
	f.answers[f.name(b)] = answer.String()
}

// tokens counts the exchanges that have brought tokens.
func (f *battlefield) tokens() (n int) {
	for _, srv := range []*oauthtest.Server{f.srv, f.plain, f.evil} {
		c := srv.Counts()
		n += c.TokenRequests - c.InvalidGrants
	}
	return n
}

func pick[T any](f *battlefield, from ...T) T { return from[f.rand.IntN(len(from))] }

// An attack may do what it likes. It returns what a browser got for it.
type attack func(f *battlefield) visit

var attacks = map[string]attack{
	"login CSRF: the attacker's answer in the victim's browser": func(f *battlefield) visit {
		path := pick(f, f.paths...)
		return f.victim.open(f.attacker.consent(f.begin(f.attacker, path)).String())
	},
	"the same while the victim has an attempt under way": func(f *battlefield) visit {
		path := pick(f, f.paths...)
		f.begin(f.victim, path)
		return f.victim.open(f.attacker.consent(f.begin(f.attacker, path)).String())
	},
	"the attacker's code with the victim's state": func(f *battlefield) visit {
		path := pick(f, f.paths...)
		victims := f.begin(f.victim, path)
		attackers := f.attacker.consent(f.begin(f.attacker, path))
		return f.victim.open(with(attackers, "state", victims.Query().Get("state"))) // PKCE stops it at the provider.
	},
	"the victim's answer in the attacker's browser": func(f *battlefield) visit {
		path := pick(f, f.paths...)
		return f.attacker.open(f.victim.consent(f.begin(f.victim, path)).String())
	},
	"the victim's code with the attacker's state": func(f *battlefield) visit {
		path := pick(f, f.paths...)
		own := f.begin(f.attacker, path)
		return f.attacker.open(with(f.victim.consent(f.begin(f.victim, path)), "state", own.Query().Get("state")))
	},
	"the victim's answer and cookies in the attacker's browser": func(f *battlefield) visit {
		answer := f.victim.consent(f.begin(f.victim, pick(f, f.paths...)))
		thief := f.surfer("attacker")
		thief.jar.SetCookies(answer, f.victim.cookies())
		return thief.open(answer.String())
	},
	"the attacker's cookies planted in the victim's browser": func(f *battlefield) visit {
		answer := f.attacker.consent(f.begin(f.attacker, pick(f, f.paths...)))
		f.victim.jar.SetCookies(answer, f.attacker.cookies())
		return f.victim.open(answer.String())
	},
	"a used answer again, in the same browser": func(f *battlefield) visit {
		b := pick(f, f.victim, f.attacker)
		return b.open(f.answers[f.name(b)])
	},
	"a used answer again, in another browser": func(f *battlefield) visit {
		return f.attacker.open(f.answers["victim"])
	},
	"mix-up: the malicious provider sends the browser to an honest one": func(f *battlefield) visit {
		srv, path := f.srv, ""
		if f.rand.IntN(2) == 0 {
			srv, path = f.plain, "/plain"
		}
		q := f.begin(f.victim, "/evil").Query()
		q.Set("redirect_uri", appURL+path+"/callback")
		answer := f.victim.consent(must(url.Parse(srv.URL() + "/authorize?" + q.Encode())))
		if f.rand.IntN(2) == 0 { // The attacker has it brought to the malicious one's address.
			return f.victim.open(appURL + "/evil/callback?" + answer.RawQuery)
		}
		return f.victim.open(answer.String())
	},
	"an answer at the address of another provider": func(f *battlefield) visit {
		answer := f.victim.consent(f.begin(f.victim, "/plain"))
		return f.victim.open(appURL + pick(f, "", "/evil") + "/callback?" + answer.RawQuery)
	},
	"a forged iss": func(f *battlefield) visit {
		answer := f.victim.consent(f.begin(f.victim, pick(f, f.paths...)))
		return f.victim.open(with(answer, "iss", pick(f, f.evil.URL()+"/x", "https://evil.example", "null", f.srv.URL()+"/")))
	},
	"a forged state": func(f *battlefield) visit {
		answer := f.victim.consent(f.begin(f.victim, pick(f, f.paths...)))
		state := answer.Query().Get("state")
		return f.victim.open(with(answer, "state", pick(f, "", state[1:], state+"A", strings.ToLower(state), state[:13], strings.Repeat(state, 50), "\x00"+state, attemptID(state))))
	},
	"parameters twice": func(f *battlefield) visit {
		answer := f.victim.consent(f.begin(f.victim, pick(f, f.paths...)))
		return f.victim.open(answer.String() + "&" + pick(f, "code=x", "state=x", "iss=x", "error=a&error=b", "%63ode=x", "state="+answer.Query().Get("state")))
	},
	"a query that is none": func(f *battlefield) visit {
		answer := f.victim.consent(f.begin(f.victim, pick(f, f.paths...)))
		return f.victim.open(answer.String() + pick(f, "&a=%zz", ";x=1", "&%=", "&a=b;c"))
	},
	"a forged cookie": func(f *battlefield) visit {
		answer := f.attacker.consent(f.begin(f.attacker, pick(f, f.paths...)))
		cookies := f.attacker.cookies()
		c := cookies[f.rand.IntN(len(cookies))]
		value := []byte(c.Value)
		value[f.rand.IntN(len(value))] ^= 1 << f.rand.IntN(5)
		own := f.replicas[0].web.cookies.prefix + attemptID(answer.Query().Get("state"))
		b := f.surfer("victim")
		b.jar.SetCookies(answer, []*http.Cookie{{Name: own, Path: "/", Secure: true,
			Value: pick(f, string(value), c.Value[:f.rand.IntN(len(c.Value))], c.Value+"AA", "", strings.Repeat("A", 700), "a.b.c")}})
		return b.open(answer.String())
	},
	"an answer that is posted": func(f *battlefield) visit {
		answer := f.victim.consent(f.begin(f.victim, ""))
		req := form("/callback")
		req.URL.RawQuery = answer.RawQuery
		req.Method = pick(f, "POST", "PUT", "HEAD", "DELETE", "OPTIONS")
		return f.victim.do(req, never)
	},
	"an answer that is prefetched": func(f *battlefield) visit {
		req := get(f.victim.consent(f.begin(f.victim, pick(f, f.paths...))).String())
		req.Header.Set(pick(f, "Sec-Purpose", "Purpose", "X-Moz", "X-Purpose"), pick(f, "prefetch", "prefetch;prerender", "preview"))
		return f.victim.do(req, never)
	},
	"another site begins a login": func(f *battlefield) visit {
		req := form(pick(f, f.paths...)+"/connect", "return", "/")
		f.fromElsewhere(req)
		return f.victim.do(req, always)
	},
	"another site disconnects": func(f *battlefield) visit {
		req := form(pick(f, f.paths...) + "/disconnect")
		f.fromElsewhere(req)
		return f.victim.do(req, always)
	},
	"an open redirect": func(f *battlefield) visit {
		evil := pick(f, "//evil.example", `/\evil.example`, `\/evil.example`, "https://evil.example", "http:evil.example", "javascript:alert(1)", "/%5cevil.example", "/%2fevil.example",
			"/\t/evil.example", "///evil.example", "/..//evil.example", "/\r\nLocation: https://evil.example", "data:text/html,x", ".evil.example", "@evil.example", "/%0d%0aX: y", "evil.example/")
		b := f.surfer("bystander")
		request := b.do(form("/connect", "return", evil), always).url
		v := b.open(with(b.consent(request), "code", "", "error", pick(f, "access_denied", "server_error")))
		if strings.Contains(v.body, "evil") {
			f.t.Errorf("%q: the page leads to %s", evil, v.body)
		}
		return v
	},
	"a forged description": func(f *battlefield) visit {
		answer := f.victim.consent(f.begin(f.victim, ""))
		return f.victim.open(with(answer, "code", "", "error", pick(f, "access_denied", "<script>alert(1)</script>", "x\r\nSet-Cookie: a=b"),
			"error_description", pick(f, "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "</style><iframe>"), "error_uri", "javascript:alert(1)"))
	},
	"forged headers of a proxy": func(f *battlefield) visit {
		b := f.surfer("bystander")
		b.header = http.Header{"X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"host=evil.example;proto=http"}, "X-Original-Url": {"/evil"}, "Referer": {"https://evil.example"}}
		v := b.do(form("/connect"), always)
		if got := v.url.Query().Get("redirect_uri"); got != appURL+"/callback" {
			f.t.Errorf("the redirect URI is %s", got)
		}
		return v
	},
	"a made-up page": func(f *battlefield) visit {
		return f.victim.open(pick(f, f.paths...) + "/callback?" + pick(f, "refused=", "ended=", "x=") + url.QueryEscape(pick(f, "<script>alert(1)</script>", "other-user", "../..", "\x00", "javascript:alert(1)")))
	},
	"somebody else signs in before the answer comes": func(f *battlefield) visit {
		b := f.surfer("victim")
		answer := b.consent(must(url.Parse(b.start().String() + "&login_hint=victim")))
		b.signIn(pick(f, "attacker", "", "VICTIM", "victim "))
		return b.open(answer.String())
	},
}

func (f *battlefield) fromElsewhere(req *http.Request) {
	switch f.rand.IntN(4) {
	case 0:
		req.Header.Set("Sec-Fetch-Site", pick(f, "cross-site", "same-site", "SAME-ORIGIN"))
	case 1:
		req.Header.Del("Sec-Fetch-Site")
		req.Header.Set("Origin", pick(f, "https://evil.example", "null", "http://app.test", appURL+".evil.example", appURL+":444", "https://internal:8080"))
	case 2:
		req.Method = pick(f, "GET", "HEAD")
		req.Header.Del("Sec-Fetch-Site")
		req.Header.Del("Origin")
	default:
		req.Method = "GET"
		req.Header.Set("Sec-Fetch-Site", "cross-site")
	}
}

// A thousand attacks by another site and another user: no code brings tokens that should
// not, nobody has a login of somebody else, no login ends, and the browser stays here.
func TestThousandAttacks(t *testing.T) {
	t.Parallel()
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	const seed = 17
	f := newBattlefield(t, seed)
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range attacks {
			if !yield(name) {
				return
			}
		}
	})
	statuses := map[string]int{}
	for i := range rounds {
		name := names[i%len(names)]
		before, refresh := f.tokens(), f.record("victim", "").RefreshToken
		v := attacks[name](f)
		statuses[fmt.Sprint(v.status)]++
		if after := f.tokens(); after != before {
			t.Fatalf("%d, %s: %d exchanges", i, name, after-before)
		}
		if v.url.Host != "app.test" && (v.url.Path != "/authorize" || name != "forged headers of a proxy") {
			t.Errorf("%d, %s: the browser is at %s", i, name, v.url)
		}
		if v.status == http.StatusInternalServerError && name != "the attacker's code with the victim's state" || strings.Contains(v.body, "<script") || strings.Contains(v.body, "<iframe") || v.header.Get("X") != "" {
			t.Errorf("%d, %s: HTTP %d: %s", i, name, v.status, v.body)
		}
		if f.record("victim", "").RefreshToken != refresh || !f.srv.Valid(string(refresh)) {
			t.Fatalf("%d, %s: the login of the victim has changed", i, name)
		}
		for _, web := range []*Web{f.replicas[0].web} {
			for _, user := range []string{"victim", "attacker"} {
				accounts, err := web.Logins(t.Context(), user)
				if err != nil || len(accounts) != 1 || accounts[0].Subject != user {
					t.Fatalf("%d, %s: %s has %+v, %v", i, name, user, accounts, err)
				}
			}
		}
		if i%50 == 49 { // and the genuine still works
			f.login(pick(f, f.victim, f.attacker), "")
		}
	}
	if reuses := f.srv.Counts().FamiliesRevoked + f.plain.Counts().FamiliesRevoked; reuses != 0 {
		t.Errorf("%d logins were revoked", reuses)
	}
	t.Logf("%d attacks of %d kinds, responses by status: %v", rounds, len(attacks), statuses)
}
