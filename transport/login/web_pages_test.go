package login

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// W30: no response of the callback may be kept, framed, or tell others where it was.
func TestW30Headers(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	b := s.surfer("ann")
	answer := b.consent(b.start())
	for _, target := range []string{with(answer, "state", "x"), with(answer, "iss", "x"), answer.String(), answer.String(), "/callback", "/callback?refused=late"} {
		v := b.do(get(target), always)
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"} {
			if got := v.header.Get(name); !strings.Contains(got, want) {
				t.Errorf("%s: %s is %q", target, name, got)
			}
		}
		if csp := v.header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: the policy is %s", target, csp)
		}
		if strings.Contains(target, "code=") && v.status != http.StatusSeeOther {
			t.Errorf("a page is shown at %s", target)
		}
		if strings.Contains(v.header.Get("Location"), answer.Query().Get("code")) {
			t.Error("the code is in the address of the next page")
		}
	}
}

// W31: the browser comes back to a page of this site, whatever it is asked for.
func TestW31ReturnAddress(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Home = "/home" })
	b := s.surfer("ann")
	for target, want := range map[string]string{
		"/accounts": "/accounts", "/accounts?tab=2&x=%20y#z": "/accounts?tab=2&x=%20y#z", "/ä": "/ä", "/a@b": "/a@b", "/?u=https://ok.example//": "/?u=https://ok.example//",
		"": "/home", "//evil.example": "/home", `/\evil.example`: "/home", `\\evil.example`: "/home", "/%5cevil.example": "/home", "/%2Fevil.example": "/home",
		"/%2f%2fevil.example": "/home", "https://evil.example": "/home", "http:evil.example": "/home", "javascript:alert(1)": "/home", "evil.example": "/home",
		"/\t/evil.example": "/home", "/\r\nSet-Cookie: a=b": "/home", "/%0d%0aSet-Cookie:%20a=b": "/home", "/..//evil.example": "/home", " //evil.example": "/home",
		"/\x00": "/home", "/%zz": "/home", "/\u2028x": "/\u2028x", "///evil.example": "/home", "/" + strings.Repeat("a", 300): "/home",
	} {
		v := b.do(get(b.consent(b.start("return", target)).String()), always)
		if got := v.header.Get("Location"); got != want {
			t.Errorf("%q leads to %q, want %q", target, got, want)
		}
	}
}

// W32: a reload, or going back, leads on: after a success to the application, after a
// failure to the page that says how to start again.
func TestW32ReloadAndBack(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	b := s.surfer("ann")
	answer := b.consent(b.start("return", "/accounts"))
	for range 3 {
		b.wantApp(b.open(answer.String()), "/accounts")
	}
	denied := with(b.consent(b.start("return", "/accounts")), "code", "", "error", "access_denied")
	for range 3 {
		v := b.open(denied)
		b.wantPage(v, http.StatusBadRequest, "did not allow", `<a href="/accounts">Start again</a>`)
		b.wantPage(b.open(v.url.String()), http.StatusBadRequest, "did not allow") // reloaded
	}
	if n := s.srv.Counts().TokenRequests; n != 1 {
		t.Errorf("%d token requests", n)
	}
}

// W33: what the provider, or somebody in its name, says is text.
func TestW33Descriptions(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	b := s.surfer("ann")
	for _, evil := range []string{"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "</p></main><iframe>", "javascript:alert(1)", "\x1b[31m\u202egpj.exe", strings.Repeat("long ", 1000), "{{.Title}}", "%3Cscript%3E", "\xff\xfe"} {
		v := b.open(with(b.consent(b.start()), "code", "", "error", "server_error", "error_description", evil, "error_uri", "javascript:alert(1)"))
		b.wantPage(v, http.StatusServiceUnavailable, "cannot be reached")
		for _, bad := range []string{"<script", "<img", "<iframe", "onerror=\"", "\x1b", "\u202e", "href=\"javascript"} {
			if strings.Contains(v.body, bad) {
				t.Errorf("the page for %q has %q in it", evil, bad)
			}
		}
		if len(v.body) > 4<<10 {
			t.Errorf("the page has %d bytes", len(v.body))
		}
	}
}

// The application may show failures in its own way, at an address without the code.
func TestFailedOfTheApplication(t *testing.T) {
	var got Failure
	var accept error
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		c.Failed = func(w http.ResponseWriter, _ *http.Request, f Failure) { got = f; w.WriteHeader(f.Status) }
		c.Accept = func(*http.Request, *Result) error { return accept }
	})
	b := s.surfer("ann")
	v := b.open(with(b.consent(b.start("return", "/accounts")), "code", "", "error", "access_denied", "error_description", "no"))
	b.wantPage(v, http.StatusBadRequest)
	wantError(t, got.Err, transport.ErrLoginRequired, "access_denied", "no")
	if got.Return != "/accounts" {
		t.Errorf("start again at %s", got.Return)
	}
	accept = &transport.Error{Code: "no_customer", Description: "Ask your company to sign up."}
	b.wantPage(b.connect(), http.StatusForbidden)
	wantError(t, got.Err, transport.ErrLoginRequired, "no_customer", "sign up", "by-app")
	b.wantPage(b.open("/callback?refused=other-user"), http.StatusForbidden)
	if !errors.Is(got.Err, RefusedOtherUser) {
		t.Errorf("the failure is %v", got.Err)
	}
}
