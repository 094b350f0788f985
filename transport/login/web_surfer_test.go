package login

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
)

// A surfer is a person with a browser.
type surfer struct {
	s      *site
	jar    http.CookieJar
	header http.Header // of requests to the application
}

// surfer returns a person who is signed in to the application, or not if user is empty.
func (s *site) surfer(user string) *surfer {
	jar, _ := cookiejar.New(nil) // There is never an error.
	b := &surfer{s: s, jar: jar}
	b.signIn(user)
	return b
}

func (b *surfer) signIn(user string) {
	u, _ := url.Parse(appURL)
	c := &http.Cookie{Name: "user", Value: user, Path: "/", Secure: true}
	if user == "" {
		c.MaxAge = -1
	}
	b.jar.SetCookies(u, []*http.Cookie{c})
}

// RoundTrip sends what is for the application to a replica, and the rest to the provider.
func (b *surfer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != "app.test" {
		return http.DefaultTransport.RoundTrip(req)
	}
	for name, values := range b.header {
		req.Header[name] = values
	}
	return b.s.serve(req), nil
}

// do sends a request, and follows redirects until stop is true for one, which is returned.
func (b *surfer) do(req *http.Request, stop func(next *http.Request) bool) visit {
	c := &http.Client{Jar: b.jar, Transport: b, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if stop(next) || len(via) > 10 {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := c.Do(req)
	if err != nil {
		b.s.t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	v := visit{resp.Request.URL, resp.StatusCode, resp.Header, string(body), err}
	if next, err := resp.Location(); err == nil {
		v.url = next
	}
	return v
}

func never(*http.Request) bool  { return false }
func always(*http.Request) bool { return true }

// form makes the request of a button on a page of the application.
func form(path string, params ...string) *http.Request {
	values := url.Values{}
	for i := 0; i < len(params); i += 2 {
		values.Set(params[i], params[i+1])
	}
	req, err := http.NewRequest(http.MethodPost, appURL+path, strings.NewReader(values.Encode()))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", appURL)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	return req
}

func get(target string) *http.Request {
	if strings.HasPrefix(target, "/") {
		target = appURL + target
	}
	req, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		panic(err)
	}
	return req
}

// start presses the button, and returns the address at the provider.
func (b *surfer) start(params ...string) *url.URL {
	b.s.t.Helper()
	v := b.do(form("/connect", params...), always)
	if v.status != http.StatusSeeOther || !strings.HasPrefix(v.url.String(), "http://127.0.0.1:") {
		b.s.t.Fatalf("HTTP %d to %s: %s", v.status, v.url, v.body)
	}
	return v.url
}

// consent agrees at the provider, and returns the address that the browser is led back to.
func (b *surfer) consent(request *url.URL) *url.URL {
	b.s.t.Helper()
	v := b.do(get(request.String()), func(next *http.Request) bool { return strings.HasPrefix(next.URL.String(), appURL) })
	if v.status != http.StatusFound {
		b.s.t.Fatalf("the provider answered HTTP %d: %s", v.status, v.body)
	}
	return v.url
}

// open opens an address of the application, and follows redirects.
func (b *surfer) open(target string) visit {
	b.s.t.Helper()
	return b.do(get(target), never)
}

// connect does all of it.
func (b *surfer) connect(params ...string) visit {
	b.s.t.Helper()
	return b.open(b.consent(b.start(params...)).String())
}

// cookies returns the cookies of attempts that the browser has.
func (b *surfer) cookies() []*http.Cookie {
	u, _ := url.Parse(appURL)
	return slices.DeleteFunc(b.jar.Cookies(u), func(c *http.Cookie) bool { return !strings.Contains(c.Name, "login") })
}

func (b *surfer) wantApp(v visit, path string) {
	b.s.t.Helper()
	if v.status != http.StatusOK || v.url.Path != path || v.url.RawQuery != "" || v.body != "the application" {
		b.s.t.Errorf("the browser ends at %s, HTTP %d: %s", v.url, v.status, v.body)
	}
}

func (b *surfer) wantPage(v visit, status int, words ...string) {
	b.s.t.Helper()
	if v.status != status {
		b.s.t.Errorf("HTTP %d at %s, want %d: %s", v.status, v.url, status, v.body)
	}
	for _, word := range words {
		if !strings.Contains(v.body, word) {
			b.s.t.Errorf("the page lacks %q:\n%s", word, v.body)
		}
	}
	if v.url.Query().Has("code") || v.url.Query().Has("state") {
		b.s.t.Errorf("the address of the page is %s, where the code may be seen", v.url)
	}
}
