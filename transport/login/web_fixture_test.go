package login

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A site is a web application of several replicas, which share nothing but a store and
// the keys of the cookies. It is reached as https://app.test.
type site struct {
	t     *testing.T
	srv   *oauthtest.Server
	store tokencache.Store
	conf  func(*WebConfig) // changes the configuration of each replica

	replicas []*replica
	next     atomic.Int32 // whose turn it is

	mu     sync.Mutex
	events []transport.Event
	seen   bytes.Buffer // everything that was ever sent to a browser
	log    output       // of all replicas
}

type replica struct {
	web  *Web
	pool *transport.Pool
	mux  *http.ServeMux
}

const appURL = "https://app.test"

var cookieKey = []byte("cookie key: thirty-two bytes !!!")

// newSite starts a provider and an application with so many replicas. conf may be nil.
func newSite(t *testing.T, cfg oauthtest.Config, replicas int, conf func(*WebConfig)) *site {
	t.Helper()
	s := &site{t: t, store: new(tokencache.Memory), conf: conf}
	s.srv = newProvider(t, cfg)
	for range replicas {
		s.replicas = append(s.replicas, s.replica(s.srv, conf))
	}
	t.Cleanup(s.wantNoSecrets)
	return s
}

func newProvider(t *testing.T, cfg oauthtest.Config) *oauthtest.Server {
	t.Helper()
	if cfg.Scope == "" {
		cfg.Scope = "api openid files mail"
	}
	srv := oauthtest.New(cfg)
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// replica starts one more process of the application.
func (s *site) replica(srv *oauthtest.Server, conf func(*WebConfig)) *replica {
	s.t.Helper()
	cfg := s.config(srv)
	if conf != nil {
		conf(&cfg)
	}
	web, err := NewWeb(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	r := &replica{web: web, pool: cfg.Pool, mux: http.NewServeMux()}
	r.mux.HandleFunc("/connect", web.Connect)
	r.mux.HandleFunc("/callback", web.Callback)
	r.mux.HandleFunc("/disconnect", web.Disconnect)
	r.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the application") })
	return r
}

// config returns the configuration of a replica of its own.
func (s *site) config(srv *oauthtest.Server) WebConfig {
	s.t.Helper()
	p, err := provider.Discover(s.t.Context(), srv.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	p.Name = "Example"
	cache, err := tokencache.New(s.store, tokencache.KeyBytes([]byte("sealing key: thirty-two bytes !!")))
	if err != nil {
		s.t.Fatal(err)
	}
	endpoint := p.Endpoint(srv.ClientID(), tokencache.Secret(srv.ClientSecret()), "api", "openid")
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: endpoint}})
	if err != nil {
		s.t.Fatal(err)
	}
	return WebConfig{
		Provider: p, Endpoint: endpoint, Pool: pool, Cache: cache, RedirectURL: appURL + "/callback", Keys: [][]byte{cookieKey},
		User: func(r *http.Request) (string, error) {
			if c, err := r.Cookie("user"); err == nil {
				return c.Value, nil
			}
			return "", nil
		},
		Logger: slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnEvent: func(_ context.Context, e transport.Event) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
		},
	}
}

// serve answers a request, by the replicas in turn.
func (s *site) serve(req *http.Request) *http.Response {
	return s.serveBy(int(s.next.Add(1)), req)
}

func (s *site) serveBy(replica int, req *http.Request) *http.Response {
	w := httptest.NewRecorder()
	in := httptest.NewRequestWithContext(req.Context(), req.Method, req.URL.String(), req.Body)
	in.Header = req.Header.Clone()
	in.Host = "internal:8080" // behind a proxy
	in.TLS = nil
	s.replicas[replica%len(s.replicas)].mux.ServeHTTP(w, in)
	resp := w.Result()
	resp.Request = req
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.seen, "%v %s\n", resp.Header, w.Body)
	return resp
}

// wantNoSecrets checks that no browser and no event was told a token or a client secret.
func (s *site) wantNoSecrets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		fmt.Fprintf(&s.seen, "%+v %v\n", e, e.Err)
	}
	if containsAny(s.seen.String()+s.log.String(), s.srv.Secrets()) {
		s.t.Error("a browser, an event or the log was told a secret")
	}
}

// types returns the events of a user so far, by type.
func (s *site) types() (types []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		types = append(types, string(e.Type))
	}
	return types
}

func (s *site) wantEvents(types ...transport.EventType) {
	s.t.Helper()
	var want []string
	for _, t := range types {
		want = append(want, string(t))
	}
	if got := s.types(); !slices.Equal(got, want) {
		s.t.Errorf("the events are %q, want %q", got, want)
	}
}

// record returns the login that is stored for the user, or nil.
func (s *site) record(user, label string) *tokencache.Record {
	s.t.Helper()
	rec, err := s.replicas[0].web.stored(s.t.Context(), user, label)
	if err != nil {
		s.t.Fatal(err)
	}
	return rec
}

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

// editToken changes the claims of an ID token, whose signature nobody looks at.
func editToken(token string, change func(claims map[string]any)) string {
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		panic(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		panic(err)
	}
	change(claims)
	if payload, err = json.Marshal(claims); err != nil {
		panic(err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString(payload)
	return strings.Join(parts, ".")
}
