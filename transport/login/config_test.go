package login

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

func TestConfig(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"no provider", func(c *Config) { c.Provider = nil }, "Config.Provider"},
		{"no endpoint", func(c *Config) { c.Endpoint = nil }, "Config.Endpoint"},
		{"no client", func(c *Config) { c.Endpoint.ClientID = "" }, "Endpoint.ClientID"},
		{"two providers", func(c *Config) { c.Endpoint.TokenURL = "https://other.test/token" }, "another provider"}, // C46
		{"timeout", func(c *Config) { c.Timeout = -1 }, "Config.Timeout"},
		{"no authorization endpoint", func(c *Config) { c.Provider.AuthURL = "" }, "set AuthURL"},
		{"plain http", func(c *Config) { c.Provider.AuthURL = "http://as.test/auth" }, "https"},
		{"user information", func(c *Config) { c.Provider.AuthURL = "https://u:p@as.test/auth" }, "user information"},
		{"no PAR endpoint", func(c *Config) { c.PAR, c.Provider.PARURL = true, "" }, "Provider.PARURL"},
		{"state", func(c *Config) { c.AuthParams = url.Values{"state": {"x"}} }, "remove state"},
		{"plain PKCE", func(c *Config) { c.AuthParams = url.Values{"code_challenge_method": {"plain"}} }, "remove code_challenge_method"}, // C22
		{"preset with a state", func(c *Config) { c.Provider.AuthParams = url.Values{"state": {"x"}} }, "remove state"},
		{"implicit", func(c *Config) { c.AuthParams = url.Values{"response_type": {"token"}} }, "remove response_type"}, // C48
		{"relative resource", func(c *Config) { c.Endpoint.Params = url.Values{"resource": {"api"}} }, "absolute URL"},  // C32
		{"resource with a fragment", func(c *Config) { c.Endpoint.Params = url.Values{"resource": {"https://a.test/#x"}} }, "fragment"},
		{"one of several resources is relative", func(c *Config) { c.AuthParams = url.Values{"resource": {"https://a.test", "api"}} }, "absolute URL"}, // C99
		{"redirect elsewhere", func(c *Config) { c.RedirectURL = "https://app.test/callback" }, "127.0.0.1"},
		{"redirect to an address in another spelling", func(c *Config) { c.RedirectURL = "http://[0:0:0:0:0:0:0:1]/callback" }, "::1"},
		{"redirect to the network", func(c *Config) { c.RedirectURL = "http://0.0.0.0/callback" }, "127.0.0.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{})
			w.cfg.Open = func(context.Context, string) error { t.Error("a browser was opened"); return nil }
			tt.change(&w.cfg)
			_, err := Loopback(t.Context(), w.cfg)
			w.wantError(err, transport.ErrMisconfigured, tt.says)
		})
	}
	_, err := Device(t.Context(), Config{Provider: &provider.Provider{TokenURL: "https://as.test/token"},
		Endpoint: &endpoint.Endpoint{TokenURL: "https://as.test/token", ClientID: "c"}})
	wantError(t, err, transport.ErrMisconfigured, "no device authorization endpoint")
}

// C12, C25: the redirect URI, wherever it is set, is the one of the request, of the
// exchange and of the listener.
func TestRedirectURL(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	tests := []struct {
		name   string
		change func(*Config)
		prefix string
		path   string
	}{
		{"path", func(c *Config) { c.RedirectURL = "http://127.0.0.1/cb" }, "http://127.0.0.1:", "/cb"},
		{"no path", func(c *Config) { c.RedirectURL = "http://127.0.0.1" }, "http://127.0.0.1:", ""},
		{"localhost", func(c *Config) { c.RedirectURL = "http://localhost/" }, "http://localhost:", "/"},
		{"LOCALHOST", func(c *Config) { c.RedirectURL = "http://LOCALHOST/" }, "http://LOCALHOST:", "/"},
		{"port", func(c *Config) { c.RedirectURL = "http://127.0.0.1:" + port + "/cb" }, "http://127.0.0.1:" + port, "/cb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{})
			tt.change(&w.cfg)
			var back *url.URL
			w.cfg.Open = func(_ context.Context, u string) error {
				back = redirectURIOf(t, u)
				go browse(u)
				return nil
			}
			rec, err := Loopback(t.Context(), w.cfg)
			w.wantLogin(rec, err)
			if back.Path != tt.path || !strings.HasPrefix(back.String(), tt.prefix) {
				t.Errorf("the redirect URI is %s", back)
			}
			if strings.EqualFold(back.Hostname(), "localhost") {
				wantClosed(t, &url.URL{Host: "[::1]:" + back.Port()})
			}
		})
	}
	t.Run("port taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w := newWorld(t, oauthtest.Config{})
		w.cfg.RedirectURL = "http://" + l.Addr().String() + "/callback"
		_, err = Loopback(t.Context(), w.cfg)
		w.wantError(err, transport.ErrMisconfigured, "another program")
	})
}

// Both families are listened at for localhost, since a browser may mean either.
func TestListenAtLocalhost(t *testing.T) {
	if !available(t.Context(), "::1") {
		realparts.Require(t, "IPv6", errors.New("nothing can listen at ::1"))
	}
	ls, uri, err := listenAt(t.Context(), &url.URL{Scheme: "http", Host: "localhost", Path: "/cb"})
	if err != nil || len(ls) != 2 {
		t.Fatalf("%d listeners, %v", len(ls), err)
	}
	for _, l := range ls {
		defer l.Close()
		if a := l.Addr().(*net.TCPAddr); !a.IP.IsLoopback() || uri != fmt.Sprintf("http://localhost:%d/cb", a.Port) {
			t.Errorf("listening at %v for %s", a, uri)
		}
	}
	if a, b := ls[0].Addr().(*net.TCPAddr), ls[1].Addr().(*net.TCPAddr); a.Port != b.Port || a.IP.Equal(b.IP) {
		t.Errorf("listening at %v and %v", a, b)
	}
}

// What is not the browser's way to the answer is refused, and every response says
// that nothing of it may be kept, framed or run.
func TestCallbackResponses(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.Open = func(_ context.Context, u string) error {
		back := redirectURIOf(t, u)
		for _, tt := range []struct {
			method, host, path string
			want               int
		}{
			{"GET", back.Host, back.Path, http.StatusBadRequest},
			{"GET", back.Host, "/", http.StatusNotFound},
			{"GET", back.Host, "/favicon.ico", http.StatusNotFound},
			{"POST", back.Host, back.Path, http.StatusMethodNotAllowed},
			{"HEAD", back.Host, back.Path, http.StatusMethodNotAllowed},
			{"GET", "evil.test", back.Path, http.StatusMisdirectedRequest},
			{"GET", "localhost:" + back.Port(), back.Path, http.StatusMisdirectedRequest},
			{"GET", "127.0.0.1", back.Path, http.StatusMisdirectedRequest},
		} {
			req, err := http.NewRequest(tt.method, "http://"+back.Host+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = tt.host
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("%s %s at %s: HTTP %d, want %d", tt.method, tt.path, tt.host, resp.StatusCode, tt.want)
			}
			for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
				"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"} {
				if !strings.HasPrefix(resp.Header.Get(name), want) {
					t.Errorf("%s: %s: %q", tt.path, name, resp.Header.Get(name))
				}
			}
		}
		go browse(u)
		return nil
	}
	rec, err := Loopback(t.Context(), w.cfg)
	w.wantLogin(rec, err)
}

// C35: only client_id and request_uri are left for the browser.
func TestPushedRequest(t *testing.T) {
	const uri = "urn:ietf:params:oauth:request_uri:r-1"
	w := newWorld(t, oauthtest.Config{AuthStyle: oauthtest.AuthBasic})
	w.cfg.Provider.PARURL = w.srv.URL() + "/par"
	w.cfg.Provider.RequirePAR = true
	w.cfg.AuthParams = url.Values{"login_hint": {"alice"}}
	var pushed url.Values
	answer := `{"request_uri":"` + uri + `","expires_in":60}`
	w.srv.Fault("/par", 0, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if id, secret, ok := r.BasicAuth(); !ok || id != w.srv.ClientID() || secret != w.srv.ClientSecret() {
				t.Errorf("the client is not authenticated as at the token endpoint")
			}
			r.ParseForm()
			pushed = r.PostForm
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusCreated)
			rw.Write([]byte(answer))
		})
	})
	f, err := newFlow(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.newRequest(t.Context(), "http://127.0.0.1:1/callback")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	if q := u.Query(); len(q) != 2 || q.Get("client_id") != w.srv.ClientID() || q.Get("request_uri") != uri {
		t.Errorf("the browser is sent to %s", r.url)
	}
	for _, name := range []string{"state", "code_challenge", "redirect_uri", "login_hint", "scope", "response_type"} {
		if pushed.Get(name) == "" {
			t.Errorf("%s was not pushed: %v", name, pushed)
		}
	}
	if r.expiry.IsZero() {
		t.Error("the expiry is not known")
	}
	answer = `{}`
	if _, err = f.newRequest(t.Context(), "http://127.0.0.1:1/callback"); err == nil || !strings.Contains(err.Error(), "no request_uri") {
		t.Errorf("without request_uri: %v", err)
	}
}

func TestNoBrowser(t *testing.T) {
	tests := []struct {
		goos string
		env  []string
		want string
	}{
		{"linux", []string{"DISPLAY"}, ""},
		{"linux", []string{"WAYLAND_DISPLAY"}, ""},
		{"linux", []string{"WSL_DISTRO_NAME"}, ""},
		{"linux", nil, "There is no display here"},
		{"freebsd", nil, "There is no display here"},
		{"linux", []string{"DISPLAY", "SSH_CONNECTION"}, "This is a session over SSH"},
		{"darwin", nil, ""},
		{"darwin", []string{"SSH_TTY"}, "This is a session over SSH"},
		{"windows", nil, ""},
		{"windows", []string{"SSH_CLIENT"}, "This is a session over SSH"},
	}
	for _, tt := range tests {
		env := func(name string) string {
			if slices.Contains(tt.env, name) {
				return "x"
			}
			return ""
		}
		if got := noBrowser(env, tt.goos); got != tt.want {
			t.Errorf("%s with %q: %q, want %q", tt.goos, tt.env, got, tt.want)
		}
	}
}

func TestAuto(t *testing.T) {
	for _, name := range []string{"SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"} {
		t.Setenv(name, "")
	}
	t.Run("desktop", func(t *testing.T) {
		t.Setenv("DISPLAY", ":0")
		w := newWorld(t, oauthtest.Config{})
		w.cfg.Open = func(_ context.Context, u string) error { go browse(u); return nil }
		rec, err := Auto(t.Context(), w.cfg)
		w.wantLogin(rec, err)
		if !strings.HasPrefix(w.out.String(), "Logging in with the browser on this machine.\n") {
			t.Errorf("the user was told:\n%s", w.out)
		}
	})
	t.Run("SSH", func(t *testing.T) {
		t.Setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
		inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
			w.after(0, func(p Prompt) { w.srv.ApproveDevice(p.UserCode, "alice") })
			rec, err := Auto(t.Context(), w.cfg)
			w.wantLogin(rec, err)
			if !strings.HasPrefix(w.out.String(), "This is a session over SSH, so logging in with a code") {
				t.Errorf("the user was told:\n%s", w.out)
			}
		})
	})
	t.Run("SSH without the device flow", func(t *testing.T) {
		t.Setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
		w := newWorld(t, oauthtest.Config{})
		w.cfg.Provider.DeviceAuthURL = ""
		w.user(func(u *url.URL) string { return u.String() + "\n" })
		rec, err := Auto(t.Context(), w.cfg)
		w.wantLogin(rec, err)
		if !strings.HasPrefix(w.out.String(), "This is a session over SSH, so logging in with a browser on another machine.\n") {
			t.Errorf("the user was told:\n%s", w.out)
		}
	})
}

// A provider that has no device flow after all, as older servers of GitLab, or none for this client,
// does not keep a user of SSH from logging in. What else is wrong is said.
func TestAutoWithoutDeviceFlow(t *testing.T) {
	for _, name := range []string{"SSH_CLIENT", "SSH_TTY", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"} {
		t.Setenv(name, "")
	}
	t.Setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
	for _, tt := range []struct {
		status       int
		kind, answer string
		pastes       bool
	}{
		{404, "text/html", "<h1>Not found</h1>", true},
		{400, "application/json", `{"error":"unauthorized_client"}`, true},
		{401, "application/json", `{"error":"invalid_client"}`, false},
		{503, "text/html", "<h1>Later</h1>", false},
	} {
		w := newWorld(t, oauthtest.Config{})
		w.cfg.Provider.DeviceAuthURL = w.srv.URL() + "/device_authorization"
		w.srv.Fault("/device_authorization", 1, oauthtest.Answer(tt.status, tt.kind, tt.answer))
		w.user(func(u *url.URL) string { return u.String() + "\n" })
		rec, err := Auto(t.Context(), w.cfg)
		if tt.pastes {
			w.wantLogin(rec, err)
		} else if err == nil {
			t.Errorf("%+v: no error", tt)
		}
		if told := strings.Contains(w.out.String(), "no such codes for this program, so logging in with a browser on another machine"); told != tt.pastes {
			t.Errorf("%+v: the user was told:\n%s", tt, w.out)
		}
	}
}

// The record of a flow is what a Source takes.
func TestRecordIsForSource(t *testing.T) {
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: w.cfg.Endpoint})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close(context.Background())
	w.cfg.Cache = cache
	w.cfg.Open = func(_ context.Context, u string) error { go browse(u); return nil }
	rec, err := Loopback(t.Context(), w.cfg)
	w.wantLogin(rec, err)
	if err := source.Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	token, err := source.Token(t.Context())
	if err != nil || !w.srv.Valid(string(token.AccessToken)) {
		t.Errorf("the token is not valid, %v", err)
	}
}
