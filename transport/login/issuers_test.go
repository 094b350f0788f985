package login

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// A plainIssuer is a provider that does not send iss. It knows the redirect URIs that
// are registered there, whatever their port (RFC 8252 section 7.3), and counts what its
// token endpoint is told.
type plainIssuer struct {
	*httptest.Server
	paths    []string
	leadTo   string // a malicious one: the browser goes to this authorization endpoint
	pretends string // and says that this path of the client is meant

	mu    sync.Mutex
	codes []string // that it has issued
	told  []string // that its token endpoint was sent
}

func newPlainIssuer(t *testing.T, paths ...string) *plainIssuer {
	p := &plainIssuer{paths: paths}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *plainIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":"%[1]s/authorize","token_endpoint":"%[1]s/token"}`, p.URL)
	case "/authorize":
		q := r.URL.Query()
		back, _ := url.Parse(q.Get("redirect_uri"))
		switch {
		case p.leadTo != "":
			if p.pretends != "" {
				back.Path = p.pretends
			}
			q.Set("redirect_uri", back.String())
			http.Redirect(w, r, p.leadTo+"?"+q.Encode(), http.StatusFound)
		case !strings.Contains(" "+strings.Join(p.paths, " ")+" ", " "+back.Path+" "):
			http.Error(w, "not registered", http.StatusBadRequest)
		default:
			code := rand.Text()
			p.codes = append(p.codes, code)
			back.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}}.Encode()
			http.Redirect(w, r, back.String(), http.StatusFound)
		}
	case "/token":
		r.ParseForm()
		p.told = append(p.told, r.PostForm.Get("code"))
		io.WriteString(w, `{"access_token":"a-`+rand.Text()+`","token_type":"Bearer"}`)
	}
}

// config is that of a program which knows both issuers, and is registered at each.
func (p *plainIssuer) config(t *testing.T, cache *tokencache.Cache) Config {
	t.Helper()
	found, err := provider.Discover(t.Context(), p.URL)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Provider: found, Endpoint: found.Endpoint("client", ""), Cache: cache, Out: io.Discard,
		Open: func(_ context.Context, u string) error { go browse(u); return nil }}
}

func cacheWith(t *testing.T, issuers ...string) *tokencache.Cache {
	t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, issuer := range issuers {
		if _, err := cache.Save(t.Context(), tokencache.Key{Issuer: issuer, ClientID: "client"}, &tokencache.Record{AccessToken: "a"}, ""); err != nil {
			t.Fatal(err)
		}
	}
	return cache
}

// C46, C112: two issuers, one of them malicious, and the honest one sends no iss. The
// malicious one never receives the other's code or the verifier for it, whichever path
// of the client it names there.
func TestMaliciousIssuerGetsNoCodeOfAnother(t *testing.T) {
	for name, tt := range map[string]struct{ pretends, resource string }{
		"its own path": {}, "the honest one's path": {pretends: "/callback"},
		"its own path, at the first login": {resource: "https://api.test"}, "the honest one's path, at the first login": {"/callback", "https://api.test"},
	} {
		t.Run(name, func(t *testing.T) {
			honest := newPlainIssuer(t, "/callback")
			evil := newPlainIssuer(t)
			evil.leadTo, evil.pretends = honest.URL+"/authorize", tt.pretends
			known := []string{honest.URL}
			if tt.resource != "" {
				known = nil // An API has named the malicious one.
			}
			cfg := evil.config(t, cacheWith(t, known...))
			cfg.Provider.Resource = tt.resource
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			cfg.Open = func(_ context.Context, u string) error {
				go func() {
					browse(u)
					giveUp()
				}()
				return nil
			}
			_, err := Loopback(ctx, cfg)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the login ended with %v", err)
			}
			for _, told := range evil.told {
				t.Errorf("the malicious issuer was told the code %.4s…, of %d that the honest one has issued", told, len(honest.codes))
			}
			if tt.pretends != "" && len(honest.codes) != 1 {
				t.Errorf("the attack was not carried out: %d codes were issued", len(honest.codes))
			}
		})
	}
}

// The path is the usual one, which programs have registered, unless it has to be
// told apart.
func TestPathOfTheRedirectURI(t *testing.T) {
	own := newPlainIssuer(t)
	for _, tt := range []struct {
		name   string
		change func(*Config)
		cache  *tokencache.Cache
		apart  bool
	}{
		{"no cache", func(c *Config) {}, nil, false},
		{"first login", func(c *Config) {}, cacheWith(t), false},
		{"one issuer", func(c *Config) {}, cacheWith(t, own.URL, own.URL+"#client_credentials"), false},
		{"another issuer", func(c *Config) {}, cacheWith(t, "https://as.test"), true},
		{"another issuer, and iss is sent", func(c *Config) { c.Provider.SendsIss = true }, cacheWith(t, "https://as.test"), false},
		{"named by an API", func(c *Config) { c.Provider.Resource = "https://api.test" }, cacheWith(t), true},
		{"named by an API, and no cache", func(c *Config) { c.Provider.Resource = "https://api.test" }, nil, true},
		{"named by an API, and iss is sent", func(c *Config) { c.Provider.Resource, c.Provider.SendsIss = "https://api.test", true }, cacheWith(t), false},
		{"another issuer, and a preset", func(c *Config) { c.Provider.Discovered = false }, cacheWith(t, "https://as.test"), false},
	} {
		cfg := own.config(t, tt.cache)
		tt.change(&cfg)
		f, err := newFlow(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		path := f.callbackPath(t.Context())
		if apart := strings.HasPrefix(path, "/callback/") && len(path) == len("/callback/")+16; apart != tt.apart || !apart && path != "/callback" {
			t.Errorf("%s: the path is %s", tt.name, path)
		}
		again, err := newFlow(t.Context(), cfg)
		if err != nil || again.callbackPath(t.Context()) != path {
			t.Errorf("%s: the path changes, and it is to be registered", tt.name)
		}
	}
}

// With a path of its own, the login works, and the user is told what to register.
func TestLoginAtOneOfSeveralIssuers(t *testing.T) {
	own := newPlainIssuer(t)
	out := new(output)
	cfg := own.config(t, cacheWith(t, "https://as.test"))
	cfg.Out, cfg.Timeout = out, time.Minute
	f, err := newFlow(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	path := f.callbackPath(t.Context())
	own.paths = []string{path}
	if _, err := Loopback(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "http://127.0.0.1"+path+" among the redirect addresses") {
		t.Errorf("the user was told:\n%s", out)
	}
	// The same where the address is pasted.
	for _, tt := range []struct {
		path string
		err  error
	}{{path, nil}, {"/callback", transport.ErrLoginRequired}} {
		in, typed := io.Pipe()
		cfg.In = in
		cfg.OnPrompt = func(p Prompt) {
			u, _ := url.Parse(p.URL)
			back := url.URL{Scheme: "http", Host: "127.0.0.1:9", Path: tt.path,
				RawQuery: url.Values{"state": {u.Query().Get("state")}, "code": {"c-" + rand.Text()}}.Encode()}
			go func() {
				fmt.Fprintln(typed, back.String())
				typed.Close()
			}()
		}
		if _, err := Paste(t.Context(), cfg); !errors.Is(err, tt.err) {
			t.Errorf("pasted an address with the path %s: %v, want %v", tt.path, err, tt.err)
		}
	}
}

// C25: a machine may have only one family of loopback addresses.
func TestLoopbackFallsBackToIPv6(t *testing.T) {
	var tried []string
	ls, uri, err := eitherFamily("/callback", func(u *url.URL) ([]net.Listener, string, error) {
		tried = append(tried, u.Host)
		if u.Hostname() == "127.0.0.1" {
			return nil, "", errors.New("address not available")
		}
		return listenAt(t.Context(), u)
	})
	for _, l := range ls {
		defer l.Close()
	}
	if fmt.Sprint(tried) != "[127.0.0.1 [::1]]" {
		t.Errorf("tried %v", tried)
	}
	if !available(t.Context(), "::1") {
		return // It has the other one.
	}
	if u, _ := url.Parse(uri); err != nil || u.Hostname() != "::1" || u.Port() == "" || u.Path != "/callback" {
		t.Errorf("got %q, %v", uri, err)
	}
}
