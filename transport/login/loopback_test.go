package login

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

func TestLoopback(t *testing.T) {
	styles := map[string]oauthtest.AuthStyle{"public": oauthtest.AuthNone, "basic": oauthtest.AuthBasic, "post": oauthtest.AuthPost}
	for name, style := range styles {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{AuthStyle: style})
			w.cfg.AuthParams = url.Values{"login_hint": {"alice"}}
			var request string
			seen := make(chan visit, 1)
			w.cfg.Open = func(_ context.Context, u string) error {
				request = u
				go func() { seen <- browse(u) }()
				return nil
			}
			rec, err := Loopback(t.Context(), w.cfg)
			w.wantLogin(rec, err)
			if w.srv.Current("alice").AccessToken != string(rec.AccessToken) {
				t.Error("the login is not that of the account in AuthParams")
			}
			back := redirectURIOf(t, request)
			if back.Hostname() != "127.0.0.1" || back.Port() == "" || back.Path != "/callback" { // C25
				t.Errorf("the redirect URI is %s", back)
			}
			wantClosed(t, back)

			v := <-seen
			if v.err != nil || v.status != http.StatusOK || !strings.Contains(v.body, "You are logged in") {
				t.Errorf("the browser shows HTTP %d %v\n%s", v.status, v.err, v.body)
			}
			if v.url.RawQuery != "" || v.url.Path == back.Path {
				t.Errorf("the address of the last page is %s, where the code may be seen", v.url)
			}
			if containsAny(v.body, w.srv.Secrets()) {
				t.Errorf("the last page shows a secret:\n%s", v.body)
			}
			if !strings.Contains(w.out.String(), request) {
				t.Error("the user was not shown the address")
			}
		})
	}
}

// C21, C22, C23, C26: a new verifier and state for each attempt, and S256 always,
// whether or not there is a secret.
func TestLoopbackRequestIsFresh(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f, err := newFlow(ctx, w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 200 {
		r, err := f.newRequest(ctx, "http://127.0.0.1:1/callback")
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(r.url)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if n := len(r.verifier); n < 43 || n > 128 || strings.Trim(r.verifier, unreserved) != "" {
			t.Fatalf("the verifier has %d characters, or others than RFC 7636 allows", n)
		}
		if q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" || len(q.Get("state")) < 26 {
			t.Fatalf("the request is %s", r.url)
		}
		if strings.Contains(r.url, r.verifier) {
			t.Fatal("the request shows the verifier")
		}
		for _, x := range []string{r.verifier, q.Get("code_challenge"), q.Get("state")} {
			if seen[x] {
				t.Fatal("something that must be new was used before")
			}
			seen[x] = true
		}
	}
}

const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

func TestLoopbackWithoutBrowser(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.Open = func(context.Context, string) error { return errors.New("no display") }
	var address string
	w.cfg.OnPrompt = func(p Prompt) { address = p.URL }
	w.out.wait = "no display"
	w.out.then = func() { go browse(address) } // by hand
	rec, err := Loopback(t.Context(), w.cfg)
	w.wantLogin(rec, err)
	if said := w.out.String(); !strings.Contains(said, "No browser could be opened here: no display") {
		t.Errorf("the user was told:\n%s", said)
	}
}

// A browser may bring the answer before its opener is done, which is not waited for.
func TestLoopbackSlowOpener(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.Open = func(ctx context.Context, u string) error {
		go browse(u)
		<-ctx.Done()
		return ctx.Err()
	}
	rec, err := Loopback(t.Context(), w.cfg)
	w.wantLogin(rec, err)
	if said := w.out.String(); strings.Contains(said, "No browser") {
		t.Errorf("the user was told:\n%s", said)
	}
}

// What comes back from the provider, or from somebody who pretends to be it.
func TestLoopbackAnswers(t *testing.T) {
	const denied = "The program was not allowed to use your account"
	tests := []struct {
		name   string
		change []string // in the answer; the code stays unless it is changed
		kind   transport.Kind
		says   []string
		page   string
	}{
		{"refused", []string{"code", "", "error", "access_denied", "error_description", "the user said no"},
			transport.ErrLoginRequired, []string{"access_denied", "the user said no"}, denied},
		{"provider down", []string{"code", "", "error", "temporarily_unavailable"},
			transport.ErrUnavailable, []string{"temporarily_unavailable"}, "did not succeed"},
		{"wrong scope", []string{"code", "", "error", "invalid_scope"},
			transport.ErrMisconfigured, []string{"Endpoint.Scopes"}, "did not succeed"},
		{"unknown error", []string{"code", "", "error", "odd\x1b[31m\n error"},
			transport.ErrMisconfigured, []string{"odd[31m error"}, "did not succeed"},
		{"no code", []string{"code", ""},
			transport.ErrMisconfigured, []string{"neither a code nor an error"}, "did not succeed"},
		{"other issuer", []string{"iss", "https://evil.example"}, // C36
			transport.ErrMisconfigured, []string{"another issuer"}, "did not succeed"},
		{"no issuer", []string{"iss", ""}, // C36: the metadata promises one.
			transport.ErrMisconfigured, []string{"does not say which issuer"}, "did not succeed"},
		{"error of another issuer", []string{"code", "", "error", "access_denied", "iss", "https://evil.example"},
			transport.ErrMisconfigured, []string{"another issuer"}, "did not succeed"},
		{"error without issuer", []string{"code", "", "error", "access_denied", "iss", ""},
			transport.ErrMisconfigured, []string{"does not say which issuer"}, "did not succeed"},
		{"wrong code", []string{"code", "stolen"},
			transport.ErrLoginRequired, []string{"invalid_grant"}, "did not succeed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{})
			seen := make(chan visit, 1)
			var back *url.URL
			w.cfg.Open = func(_ context.Context, u string) error {
				back = redirectURIOf(t, u)
				go func() { seen <- browse(with(answerTo(t, u, back.String()), tt.change...)) }()
				return nil
			}
			_, err := Loopback(t.Context(), w.cfg)
			w.wantError(err, tt.kind, tt.says...)
			v := <-seen
			if v.err != nil || v.status != http.StatusBadRequest || !strings.Contains(v.body, tt.page) || v.url.RawQuery != "" {
				t.Errorf("the browser shows %v HTTP %d %v\n%s", v.url, v.status, v.err, v.body)
			}
			wantClosed(t, back)
			if n := w.srv.Counts().TokenRequests; n != 0 && tt.name != "wrong code" {
				t.Errorf("%d requests came to the token endpoint", n)
			}
		})
	}
}

// C11: a forged answer is refused, and does not keep the user from logging in.
func TestLoopbackForgedAnswer(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.Open = func(_ context.Context, u string) error {
		go func() {
			back := redirectURIOf(t, u)
			for _, query := range []string{"", "code=x", "code=x&state=", "code=x&state=forged", "error=access_denied&state=forged", "code=%zz", "state=a&state=b"} {
				back.RawQuery = query
				v := browse(back.String())
				if v.status != http.StatusBadRequest || !strings.Contains(v.body, "does not belong to your login") {
					t.Errorf("%s: HTTP %d %v\n%s", query, v.status, v.err, v.body)
				}
			}
			browse(u)
		}()
		return nil
	}
	rec, err := Loopback(t.Context(), w.cfg)
	w.wantLogin(rec, err)
	if n := w.srv.Counts().TokenRequests; n != 1 {
		t.Errorf("%d requests came to the token endpoint, want 1", n)
	}
	if n := strings.Count(w.out.String(), "does not belong to this login"); n != 1 {
		t.Errorf("the user was told %d times, want once:\n%s", n, w.out)
	}
}

// The same answer again, and the answer of a second tab, while the first is being
// dealt with: they are told so, and nothing is spent twice.
func TestLoopbackUsed(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	release := make(chan struct{})
	entered := make(chan struct{})
	w.cfg.Endpoint.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		close(entered)
		<-release
		return http.DefaultTransport.RoundTrip(r)
	})
	done := make(chan visit, 1)
	var back *url.URL
	w.cfg.Open = func(_ context.Context, u string) error {
		go func() {
			back = redirectURIOf(t, u)
			first, second := answerTo(t, u, back.String()), answerTo(t, u, back.String())
			go func() { done <- browse(first.String()) }()
			<-entered
			for name, again := range map[string]*url.URL{"replay": first, "second tab": second} {
				v := browse(again.String())
				if v.status != http.StatusGone || !strings.Contains(v.body, "already used") || v.url.RawQuery != "" {
					t.Errorf("%s: %v HTTP %d %v\n%s", name, v.url, v.status, v.err, v.body)
				}
			}
			close(release)
		}()
		return nil
	}
	rec, err := Loopback(t.Context(), w.cfg)
	w.wantLogin(rec, err)
	if v := <-done; v.status != http.StatusOK {
		t.Errorf("the first tab shows HTTP %d %v", v.status, v.err)
	}
	wantClosed(t, back)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestLoopbackEnds(t *testing.T) {
	tests := []struct {
		name string
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		err  error
	}{
		{"timeout", context.WithCancel, context.DeadlineExceeded},
		{"cancelled", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(20*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{})
			ctx, cancel := tt.ctx(t.Context())
			defer cancel()
			if tt.err == context.DeadlineExceeded {
				w.cfg.Timeout = 20 * time.Millisecond
			}
			var back *url.URL
			w.cfg.Open = func(_ context.Context, u string) error { back = redirectURIOf(t, u); return nil }
			_, err := Loopback(ctx, w.cfg)
			w.wantError(err, transport.ErrLoginRequired, "log in again")
			if !errors.Is(err, tt.err) {
				t.Errorf("%v does not wrap %v", err, tt.err)
			}
			wantClosed(t, back)
		})
	}
}

// A browser that has gone before it got its page does not hold up the login.
func TestLoopbackBrowserGone(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.Open = func(_ context.Context, u string) error {
		go func() {
			answer := answerTo(t, u, redirectURIOf(t, u).String())
			c, err := net.Dial("tcp", answer.Host)
			if err != nil {
				t.Error(err)
				return
			}
			c.Write([]byte("GET " + answer.RequestURI() + " HTTP/1.1\r\nHost: " + answer.Host + "\r\n\r\n"))
			c.Close()
		}()
		return nil
	}
	rec, err := Loopback(t.Context(), w.cfg)
	w.wantLogin(rec, err)
}

// C11, C36: nothing but the whole answer of this attempt gives its code.
func FuzzAnswer(f *testing.F) {
	r := &request{state: "the-state", flow: &flow{Config: Config{
		Provider: &provider.Provider{Issuer: "https://as.test", SendsIss: true}}}}
	f.Add("code=c&state=the-state&iss=https://as.test")
	f.Add("code=c&state=the-state&iss=https://as.test&code=d")
	f.Add("error=access_denied&error_description=%1b&state=the-state&iss=https://as.test")
	f.Add("code=c&state=&iss=https://as.test")
	f.Fuzz(func(t *testing.T, query string) {
		answer, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		code, err := r.code(answer)
		whole := answer.Get("state") == "the-state" && answer.Get("iss") == "https://as.test" && answer.Get("code") != "" &&
			answer.Get("error") == "" && len(answer["state"]) == 1 && len(answer["iss"]) == 1 && len(answer["code"]) == 1 && len(answer["error"]) < 2
		if whole != (err == nil) || code != "" && err != nil {
			t.Errorf("%q gives %q, %v", query, code, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q gives an error with control characters: %q", query, err)
		}
	})
}

func TestLoopbackProbesTheCache(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	store := brokenStore{new(tokencache.Memory)}
	cache, err := tokencache.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.Cache = cache
	w.cfg.Open = func(context.Context, string) error { t.Error("the browser was opened all the same"); return nil }
	_, err = Loopback(t.Context(), w.cfg)
	w.wantError(err, transport.ErrStorage)
	if !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("%v does not wrap ErrUnavailable", err)
	}
}

type brokenStore struct{ *tokencache.Memory }

func (brokenStore) Preflight(context.Context, string, int) error {
	return tokencache.ErrUnavailable
}
