package login

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// W11: what a browser is told about the cookie.
func TestW11CookieAttributes(t *testing.T) {
	for name, tt := range map[string]struct {
		redirectURL, prefix string
		secure              bool
	}{
		"https":       {appURL + "/callback", "__Host-Http-login-", true},
		"development": {"http://localhost:8080/callback", "stayauth-login-", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.RedirectURL = tt.redirectURL })
			req := form("/connect")
			req.Header.Set("Cookie", "user=ann")
			req.Header.Set("Origin", s.replicas[0].web.origin)
			resp := s.serve(req)
			set := resp.Cookies()
			if len(set) != 1 {
				t.Fatalf("%d cookies", len(set))
			}
			c := set[0]
			location, _ := resp.Location()
			if want := tt.prefix + attemptID(location.Query().Get("state")); c.Name != want {
				t.Errorf("the name is %s, want %s", c.Name, want)
			}
			if c.Secure != tt.secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode || c.MaxAge < 599 || c.MaxAge > 601 {
				t.Errorf("the cookie is %+v", c)
			}
		})
	}
}

// withCookies returns a request with these cookies.
func withCookies(cookies []*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodGet, appURL, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

// W12, W18: a cookie that was damaged, renamed or made by somebody else is no cookie, and
// the genuine one is still good after all of that.
func TestW12ForgedCookies(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	b := s.surfer("ann")
	answer := b.consent(b.start())
	genuine := b.cookies()[0]
	other := s.surfer("ann")
	other.start()
	foreign := s.replica(newProvider(t, oauthtest.Config{}), nil) // another provider, the same keys
	id := attemptID(answer.Query().Get("state"))
	elsewhere, err := foreign.web.cookies.seal(id, &attempt{State: answer.Query().Get("state"), User: userHash(answer.Query().Get("state"), "ann"), End: time.Now().Add(time.Hour).Unix()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	forged := map[string]string{
		"that of another attempt": other.cookies()[0].Value, "empty": "", "half": genuine.Value[:len(genuine.Value)/2], "longer": genuine.Value + "AAAA",
		"not sealed": "tp9d5t.e30", "endless": strings.Repeat("a", 5000), "that of another provider": elsewhere, "without its time": genuine.Value[strings.Index(genuine.Value, "."):],
	}
	for i := range genuine.Value {
		damaged := []byte(genuine.Value)
		if damaged[i] == 'A' {
			damaged[i] = 'B'
		} else {
			damaged[i] = 'A'
		}
		forged["byte "+string(rune(i+0x4e00))] = string(damaged)
	}
	for name, value := range forged {
		req := get(answer.String())
		req.AddCookie(&http.Cookie{Name: "user", Value: "ann"})
		req.AddCookie(&http.Cookie{Name: genuine.Name, Value: value})
		resp := s.serve(req)
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/callback?refused=not-started" || len(resp.Cookies()) > 0 {
			t.Errorf("%s: HTTP %d, %v", name, resp.StatusCode, resp.Header)
		}
	}
	if n := s.srv.Counts().TokenRequests; n != 0 {
		t.Errorf("%d token requests", n)
	}
	b.wantApp(b.open(answer.String()), "/")
}

// W13: keys rotate without breaking a login, in either order of deployment.
func TestW13KeysRotate(t *testing.T) {
	next := bytes.Repeat([]byte("n"), 40)
	s := newSite(t, oauthtest.Config{}, 0, nil)
	for _, keys := range [][][]byte{{cookieKey}, {cookieKey, next}, {next, cookieKey}, {next}} {
		s.replicas = append(s.replicas, s.replica(s.srv, func(c *WebConfig) { c.Keys = keys }))
	}
	const old, prepared, switched, done = 0, 1, 2, 3
	for _, tt := range []struct {
		begins, ends int
		fits         bool
	}{{old, prepared, true}, {prepared, old, true}, {prepared, switched, true}, {switched, prepared, true}, {old, switched, true}, {switched, done, true}, {old, done, false}, {done, old, false}} {
		b := s.surfer("ann")
		s.next.Store(int32(tt.begins - 1))
		answer := b.consent(b.start())
		s.next.Store(int32(tt.ends - 1))
		v := b.do(get(answer.String()), always)
		if fits := v.url.Path == "/"; fits != tt.fits {
			t.Errorf("begun by %d, ended by %d: HTTP %d to %s", tt.begins, tt.ends, v.status, v.url)
		}
	}
}

// W14: the end of an attempt is inside the seal.
func TestW14AttemptsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := newCookies([][]byte{cookieKey}, true, 10*time.Minute, "x")
		if err != nil {
			t.Fatal(err)
		}
		web := &Web{cfg: WebConfig{Logger: slog.New(slog.DiscardHandler), Timeout: 10 * time.Minute, User: func(*http.Request) (string, error) { return "ann", nil }}, cookies: c, callback: "/callback"}
		a := &attempt{State: "s", User: userHash("s", "ann"), End: time.Now().Add(10 * time.Minute).Unix()}
		value, err := c.seal(attemptID("s"), a, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // and the browser has kept the cookie
		r := httptest.NewRequest(http.MethodGet, "/callback?code=c&state=s", nil)
		r.AddCookie(&http.Cookie{Name: c.prefix + attemptID("s"), Value: value})
		w := httptest.NewRecorder()
		web.Callback(w, r)
		if got := w.Header().Get("Location"); got != "/callback?refused=late" {
			t.Errorf("led to %s", got)
		}
	})
}

// W15: cookies hold no token and no client secret, and what they hold cannot be read.
func TestW15NothingReadableInCookies(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	b := s.surfer("ann-of-accounting")
	request := b.start("return", "/secret-page", "label", "of-work")
	before := b.cookies()[0].Value
	b.open(b.consent(request).String())
	for _, value := range []string{before, b.cookies()[0].Value} {
		raw, _ := unsealed(value)
		for _, word := range append(s.srv.Secrets(), "ann", "secret-page", "of-work", request.Query().Get("state")) {
			if strings.Contains(value, word) || bytes.Contains(raw, []byte(word)) {
				t.Errorf("a cookie has a part of %.4s in it", word)
			}
		}
	}
	a, ok := s.replicas[0].web.cookies.open(attemptID(request.Query().Get("state")), b.cookies()[0].Value)
	if !ok || a.Verifier != "" || a.State != "" {
		t.Errorf("after its end an attempt remembers %+v", a)
	}
}

func unsealed(value string) ([]byte, error) {
	_, sealed, _ := strings.Cut(value, ".")
	return base64.RawURLEncoding.DecodeString(sealed)
}

// W16, W18: tabs end in any order, and each has its own page to go back to.
func TestW16Tabs(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	b := s.surfer("ann")
	first, second, third := b.start("return", "/first"), b.start("return", "/second"), b.start("return", "/third")
	b.wantApp(b.open(b.consent(second).String()), "/second")
	b.wantApp(b.open(b.consent(third).String()), "/third")
	b.wantApp(b.open(b.consent(first).String()), "/first")
	if n := s.srv.Counts().TokenRequests; n != 3 {
		t.Errorf("%d token requests", n)
	}
}

// W17: of many attempts, the oldest go, and the cookies never become too long for a request.
func TestW17NotTooManyCookies(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	b := s.surfer("ann")
	var requests []*url.URL
	for i := range 20 {
		requests = append(requests, b.start("return", "/"+strings.Repeat("r", 200)))
		all := b.cookies()
		length := 0
		for _, c := range all {
			length += len(c.String()) + len("; ")
		}
		if len(all) != min(i+1, maxAttempts) || length > 4<<10 {
			t.Fatalf("%d cookies of %d bytes", len(all), length)
		}
	}
	left := slices.ContainsFunc(b.cookies(), func(c *http.Cookie) bool {
		return strings.HasSuffix(c.Name, attemptID(requests[19].Query().Get("state")))
	})
	if !left {
		t.Error("the newest attempt has gone")
	}
}

// The oldest goes by when it was begun, whatever the order and the provider.
func TestW17OldestGoes(t *testing.T) {
	c, err := newCookies([][]byte{cookieKey}, true, time.Minute, "x")
	if err != nil {
		t.Fatal(err)
	}
	var all []*http.Cookie
	for _, age := range []int{3, 9, 1, 7, 5} {
		value, err := c.seal("id", &attempt{}, time.Now().Add(-time.Duration(age)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &http.Cookie{Name: c.prefix + string(rune('0'+age)), Value: value})
	}
	for junk, want := range map[string][]string{"": {"9"}, "no time": {"junk", "9"}} {
		w := httptest.NewRecorder()
		r := withCookies(all)
		if junk != "" {
			r.AddCookie(&http.Cookie{Name: c.prefix + "junk", Value: junk})
		}
		c.makeRoom(w, r)
		var gone []string
		for _, deleted := range w.Result().Cookies() {
			if deleted.MaxAge >= 0 {
				t.Errorf("set %v", deleted)
			}
			gone = append(gone, strings.TrimPrefix(deleted.Name, c.prefix))
		}
		if !slices.Equal(gone, want) {
			t.Errorf("%v go, want %v", gone, want)
		}
	}
}

// W46: whatever a browser sends as a cookie is opened or refused, without a panic, and only
// what was sealed is opened.
func FuzzCookie(f *testing.F) {
	c, err := newCookies([][]byte{cookieKey}, true, time.Minute, "issuer", "client", appURL)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	good, err := c.seal("id", &attempt{State: "s", Return: "/a?b=c&d"}, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("id", good)
	f.Add("other", good)
	f.Add("id", "gj.e30")
	f.Add("", "..")
	f.Fuzz(func(t *testing.T, id, value string) {
		a, ok := c.open(id, value)
		if ok && (id != "id" || a.State != "s" || a.Return != "/a?b=c&d") {
			t.Errorf("opened %q as %+v", value, a)
		}
	})
}

// W46: whatever comes as a query, the code is never sent without a cookie, nothing is
// reflected, and the browser stays on this site.
func FuzzCallback(f *testing.F) {
	c, err := newCookies([][]byte{cookieKey}, true, time.Minute, "issuer", "client", appURL)
	if err != nil {
		f.Fatal(err)
	}
	web := &Web{cfg: WebConfig{Logger: slog.New(slog.DiscardHandler), Home: "/", User: func(*http.Request) (string, error) { return "ann", nil }}, cookies: c, callback: "/callback"}
	web.cfg.Provider = &provider.Provider{Name: "Example"}
	f.Add("code=c&state=s")
	f.Add("error=access_denied&error_description=%3Cscript%3E&state=s")
	f.Add("refused=late")
	f.Add("refused=%3Cscript%3Ealert(1)")
	f.Add("ended=aaaa")
	f.Add("a;b=%zz")
	f.Fuzz(func(t *testing.T, query string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/callback", RawQuery: query}, Header: http.Header{}}
		w := httptest.NewRecorder()
		web.Callback(w, r)
		to := w.Header().Get("Location")
		if w.Code == http.StatusSeeOther && to != "/callback?refused=not-started" || w.Code == http.StatusOK || len(w.Result().Cookies()) > 0 {
			t.Errorf("HTTP %d to %q", w.Code, to)
		}
		if strings.Contains(strings.ToLower(w.Body.String()), "<script") {
			t.Errorf("the page is %s", w.Body)
		}
	})
}

// Nothing that holds the keys shows them, however it is printed.
func TestNoKeyOfCookiesIsPrinted(t *testing.T) {
	const key = "a key of cookies of forty characters ..."
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Keys = [][]byte{[]byte(key)} })
	web := s.replicas[0].web
	for _, v := range []any{web, web.cfg, &web.cfg, WebConfig{Keys: web.cfg.Keys}} {
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("print", "value", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("print", "value", v)
		for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "b", "o"} {
			fmt.Fprintf(&out, "%"+verb+"\n", v)
		}
		for _, form := range []string{key, fmt.Sprintf("%x", key), strings.Trim(fmt.Sprint([]byte(key)), "[]"), fmt.Sprintf("%#x", key[0]), base64.StdEncoding.EncodeToString([]byte(key))} {
			if strings.Contains(out.String(), form) {
				t.Errorf("%T shows a key: %s", v, &out)
			}
		}
	}
	if got := fmt.Sprint(web); !strings.Contains(got, web.cfg.RedirectURL) {
		t.Errorf("a Web prints as %s", got)
	}
}
