package main

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"
)

// startSite starts the application with what the options do not say.
func startSite(t *testing.T, o options) *site {
	t.Helper()
	o.addr = "127.0.0.1:0"
	if o.replicas == 0 {
		o.replicas = 2
	}
	if o.scopes == "" {
		o.scopes = "openid profile"
	}
	if o.moreScopes == "" {
		o.moreScopes = "email"
	}
	if o.tokenLife == 0 {
		o.tokenLife = time.Minute
	}
	s, err := start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A visitor is a browser without a screen.
type visitor struct {
	*http.Client
	t   *testing.T
	url string
}

func newVisitor(t *testing.T, s *site) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{&http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}, t, s.url}
}

func (v *visitor) wants(resp *http.Response, err error) func(status int, texts ...string) string {
	return func(status int, texts ...string) string {
		v.t.Helper()
		if err != nil {
			v.t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			v.t.Fatal(err)
		}
		body := string(b)
		if resp.StatusCode != status {
			v.t.Fatalf("%s: HTTP %d:\n%s", resp.Request.URL, resp.StatusCode, body)
		}
		for _, text := range texts {
			if !strings.Contains(body, text) {
				v.t.Fatalf("%s does not show %q:\n%s", resp.Request.URL, text, body)
			}
		}
		return body
	}
}

func (v *visitor) get(path string) func(int, ...string) string { return v.wants(v.Get(v.url + path)) }

func (v *visitor) post(path string, form ...string) func(int, ...string) string {
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	return v.wants(v.PostForm(v.url+path, values))
}

// until reloads a page until it shows text.
func (v *visitor) until(path, text string) {
	v.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		resp, err := v.Get(v.url + path)
		if err != nil {
			v.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && strings.Contains(string(body), text) {
			return
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("%s does not show %q:\n%s", path, text, body)
		}
	}
}

// session returns the cookie of the session.
func (v *visitor) session() string {
	u, _ := url.Parse(v.url)
	for _, c := range v.Jar.Cookies(u) {
		if c.Name == "session" {
			return c.Value
		}
	}
	return ""
}

// connect connects an account at the provider that comes with the application.
func (v *visitor) connect(account, label string) {
	v.t.Helper()
	resp, err := v.PostForm(v.url+"/connect", url.Values{"label": {label}})
	v.wants(resp, err)(http.StatusOK, "The provider asks you")
	u := *resp.Request.URL
	q := u.Query()
	q.Set("login_hint", account)
	q.Set("answer", "allow")
	u.RawQuery = q.Encode()
	v.wants(v.Get(u.String()))(http.StatusOK, "Connected accounts", account)
}

// TestNothingInstalled is the whole application with what comes with it, at two replicas
// that take turns.
func TestNothingInstalled(t *testing.T) {
	s := startSite(t, options{})
	ann, ben := newVisitor(t, s), newVisitor(t, s)
	ann.get("/accounts")(http.StatusOK, "Sign in")
	ann.post("/sign-in", "name", "ann", "password", "wrong")(http.StatusUnauthorized, "no user")
	ann.post("/sign-in", "name", "ann", "password", "ann")(http.StatusOK, "No account is connected")
	ben.post("/sign-in", "name", "ben", "password", "ben")(http.StatusOK, "No account is connected")

	ann.get("/call")(http.StatusForbidden, "not connected any more", "Connect again")
	ann.connect("ann@provider.example", "")
	ann.connect("office@provider.example", "work")
	ben.connect("ben@provider.example", "")
	ann.get("/accounts")(http.StatusOK, "ann@provider.example", "office@provider.example", "<small>work</small>")
	ann.get("/call")(http.StatusOK, "ann@provider.example")
	ann.get("/call?label=work")(http.StatusOK, "office@provider.example")
	ben.get("/call")(http.StatusOK, "ben@provider.example")

	ben.get("/events")(http.StatusForbidden, "Only administrators")
	ann.get("/events")(http.StatusOK, "connected", "ben")

	// The provider ends a login, and the user is told what to do.
	s.provider.RevokeFamily(s.provider.Current("ben@provider.example").RefreshToken)
	ben.until("/call", "not connected any more")
	ben.get("/accounts")(http.StatusOK, "not connected any more", "Connect again")

	ann.post("/disconnect", "label", "work")(http.StatusOK, "Connected accounts", "ann@provider.example")
	if body := ann.get("/accounts")(http.StatusOK); strings.Contains(body, "office@provider.example") {
		t.Error("the account that was disconnected is still shown")
	}
	if c := s.provider.Counts(); c.Reuses != 0 {
		t.Errorf("the provider counted %+v", c)
	}
	ann.post("/sign-out")(http.StatusOK, "Sign in")
	ann.get("/accounts")(http.StatusOK, "Sign in")
}

// W35: a session that somebody else may know does not become that of the user.
func TestSignInRenewsTheSession(t *testing.T) {
	s := startSite(t, options{})
	v := newVisitor(t, s)
	v.post("/sign-in", "name", "ben", "password", "ben")(http.StatusOK)
	before := v.session()
	v.post("/sign-in", "name", "ann", "password", "ann")(http.StatusOK)
	if after := v.session(); before == "" || after == "" || after == before {
		t.Error("the session's id is the one from before")
	}
}

// What whoever runs the site has to mend, here that it is used at another host than that of its
// redirect URI, is not said to be the API's fault.
func TestASiteThatIsSetUpWrong(t *testing.T) {
	s := startSite(t, options{})
	v := newVisitor(t, s)
	v.post("/sign-in", "name", "ann", "password", "ann")(http.StatusOK)
	req, err := http.NewRequest(http.MethodPost, s.url+"/more", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Origin", "http://localhost:8080")
	v.wants(v.Do(req))(http.StatusInternalServerError, "not set up as it should be")
}

// W01: another site cannot press a button of this one.
func TestOtherSitesPressNoButtons(t *testing.T) {
	s := startSite(t, options{})
	v := newVisitor(t, s)
	v.post("/sign-in", "name", "ann", "password", "ann")(http.StatusOK)
	for _, path := range []string{"/sign-in", "/sign-out", "/connect", "/disconnect", "/more", "/call"} {
		req, err := http.NewRequest(http.MethodPost, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		req.Header.Set("Origin", "https://evil.example")
		v.wants(v.Do(req))(http.StatusForbidden)
	}
	v.get("/accounts")(http.StatusOK, "No account is connected")
}

// Every page says what it may load, and has no script.
func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	s := startSite(t, options{})
	v := newVisitor(t, s)
	v.post("/sign-in", "name", "ann", "password", "ann")(http.StatusOK)
	v.connect("ann@provider.example", "")
	for _, path := range []string{"/sign-in", "/accounts", "/call", "/events", "/callback", "/nowhere", "/style.css"} {
		resp, err := v.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(string(b), "<script") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %q", path, policy)
		}
	}
}
