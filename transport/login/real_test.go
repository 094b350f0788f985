package login

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// A realWorld is a certified provider with a login page, and a browser.
type realWorld struct {
	t       *testing.T
	as      *realparts.Provider
	profile *realparts.Profile
	cfg     Config
	out     *output

	ctx    context.Context // ends when the user has failed
	cancel context.CancelFunc
}

// TestReal is all that is done with a real provider and a real browser. Pictures of
// the pages are saved as artifacts (go test -artifacts).
func TestReal(t *testing.T) {
	browser := realparts.StartChromium(t)
	as := realparts.OIDCProvider(t, "--login=page")
	newWorld := func(t *testing.T) *realWorld {
		t.Helper()
		p, err := provider.Discover(t.Context(), as.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		p.Name = "Example"
		ctx, cancel := context.WithCancel(t.Context())
		out := new(output)
		w := &realWorld{t: t, ctx: ctx, cancel: cancel, as: as, profile: browser.NewProfile(t), out: out}
		w.cfg = Config{Provider: p, Out: out}
		w.use(as.Public)
		return w
	}
	for _, tt := range []struct {
		name string
		test func(*testing.T, *realWorld)
	}{
		{"allowed", realAllowed},
		{"refused", realRefused},
		{"wrong state", realWrongState},
		{"replay and second tab", realUsed},
		{"timeout", realTimeout},
		{"pushed request", realPushed},
		{"confidential client", realConfidential},
		{"paste", realPaste},
		{"device", realDevice},
		{"device, confidential client", func(t *testing.T, w *realWorld) { w.use(as.Confidential); realDevice(t, w) }},
		{"device refused", realDeviceRefused},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, newWorld(t)) })
	}
	// Whatever came before, no refresh token was presented twice.
	if c := as.Counts(); c.Reuses != 0 || c.OK["refresh_token"] == 0 || c.APICalls == 0 {
		t.Errorf("the provider counted %+v", c)
	}
}

// use makes the program a client of the provider.
func (w *realWorld) use(client realparts.Client) {
	w.cfg.Endpoint = w.cfg.Provider.Endpoint(client.ID, tokencache.Secret(client.Secret), "openid")
}

// opens lets the program open its URL in a tab, and user act on it.
func (w *realWorld) opens(user func(u string, tab *realparts.Tab)) (done <-chan struct{}) {
	ch := make(chan struct{})
	w.cfg.Open = func(_ context.Context, u string) error {
		go func() {
			defer close(ch)
			w.act(func() { user(u, w.profile.Open(u)) })
		}()
		return nil
	}
	return ch
}

// act is what the user does. If it fails, so does the login.
func (w *realWorld) act(user func()) {
	failed := true
	defer func() {
		if failed {
			w.cancel()
		}
	}()
	user()
	failed = false
}

// wantLogin checks that the tokens work, and can be refreshed.
func (w *realWorld) wantLogin(rec *tokencache.Record, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("the login failed: %v", err)
	}
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: w.cfg.Endpoint})
	if err != nil {
		w.t.Fatal(err)
	}
	defer source.Close(context.Background())
	if err := source.Login(w.t.Context(), rec); err != nil {
		w.t.Fatal(err)
	}
	token, err := source.Token(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	next, err := w.cfg.Endpoint.Refresh(w.t.Context(), rec)
	if err != nil || next.RefreshToken == rec.RefreshToken {
		w.t.Errorf("refresh: %v", err)
	}
	req, err := http.NewRequest(http.MethodGet, w.as.API, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+string(token.AccessToken))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var me struct{ Sub string }
	if err := json.NewDecoder(resp.Body).Decode(&me); err != nil || me.Sub != "alice" {
		w.t.Errorf("the API answers HTTP %d for %q, %v", resp.StatusCode, me.Sub, err)
	}
}

// wantClean checks that no page of the history has anything of the answer in it.
func (w *realWorld) wantClean(tab *realparts.Tab) {
	w.t.Helper()
	history := tab.History()
	for _, u := range history {
		if strings.Contains(u, "code=") || strings.Contains(u, "callback") {
			w.t.Errorf("the history has %s", u)
		}
	}
	var card string
	if err := tab.Eval(`getComputedStyle(document.querySelector("main")).borderRadius`, &card); err != nil || card != "12px" {
		w.t.Errorf("the page has no style: %q, %v", card, err)
	}
	var html string
	if err := tab.Eval(`document.documentElement.outerHTML`, &html); err != nil || strings.Contains(html, "script") || strings.Contains(html, "src=") {
		w.t.Errorf("the page has scripts or resources, %v:\n%s", err, html)
	}
}

const allow, deny = `button[value="allow"]`, `button[value="deny"]`

func realAllowed(t *testing.T, w *realWorld) {
	done := w.opens(func(u string, tab *realparts.Tab) {
		tab.WaitFor("asks for access")
		tab.Click(allow)
		tab.WaitFor("You are logged in")
		w.wantClean(tab)
		tab.Look("success")
	})
	rec, err := Loopback(w.ctx, w.cfg)
	<-done
	w.wantLogin(rec, err)
}

func realRefused(t *testing.T, w *realWorld) {
	done := w.opens(func(u string, tab *realparts.Tab) {
		tab.WaitFor("asks for access")
		tab.Click(deny)
		tab.WaitFor("You are not logged in")
		w.wantClean(tab)
		tab.Look("refused")
	})
	_, err := Loopback(w.ctx, w.cfg)
	<-done
	wantError(t, err, transport.ErrLoginRequired, "access_denied", "the user said no")
}

// A page of somebody else leads the browser to the listener. The user then logs in.
func realWrongState(t *testing.T, w *realWorld) {
	done := w.opens(func(u string, tab *realparts.Tab) {
		back := redirectURIOf(t, u)
		back.RawQuery = url.Values{"code": {"forged"}, "state": {"forged"}, "iss": {w.as.Issuer}}.Encode()
		other := w.profile.Open(back.String())
		other.WaitFor("does not belong to your login")
		other.Look("wrong-state")
		tab.WaitFor("asks for access")
		tab.Click(allow)
		tab.WaitFor("You are logged in")
	})
	rec, err := Loopback(w.ctx, w.cfg)
	<-done
	w.wantLogin(rec, err)
}

// The user has two tabs with the login page, goes on in both, and a third one has the
// same answer again.
func realUsed(t *testing.T, w *realWorld) {
	entered, release := make(chan string), make(chan struct{})
	var exchange sync.Once // the first request that is no question
	w.cfg.Endpoint.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodHead {
			return http.DefaultTransport.RoundTrip(r)
		}
		exchange.Do(func() {
			again := r.Clone(r.Context())
			again.Body, _ = r.GetBody()
			entered <- again.PostFormValue("code")
			select {
			case <-release:
			case <-w.ctx.Done():
			}
		})
		return http.DefaultTransport.RoundTrip(r)
	})
	done := w.opens(func(u string, first *realparts.Tab) {
		second := w.profile.Open(u)
		first.WaitFor("asks for access")
		second.WaitFor("asks for access")
		first.Click(allow)
		code := <-entered // The first tab waits for the exchange.
		second.Click(allow)
		second.WaitFor("already used")
		w.wantClean(second)
		second.Look("used")
		request, err := url.Parse(u)
		if err != nil {
			t.Error(err)
		}
		back := redirectURIOf(t, u)
		back.RawQuery = url.Values{"code": {code}, "state": request.Query()["state"], "iss": {w.as.Issuer}}.Encode()
		replay := w.profile.Open(back.String())
		replay.WaitFor("already used")
		w.wantClean(replay)
		close(release)
		first.WaitFor("You are logged in")
		w.wantClean(first)
	})
	rec, err := Loopback(w.ctx, w.cfg)
	<-done
	w.wantLogin(rec, err)
}

// The user is too late: nobody listens any more.
func realTimeout(t *testing.T, w *realWorld) {
	w.cfg.Timeout = 100 * time.Millisecond
	opened := make(chan *realparts.Tab, 1)
	var back *url.URL
	w.opens(func(u string, tab *realparts.Tab) { back = redirectURIOf(t, u); opened <- tab })
	_, err := Loopback(w.ctx, w.cfg)
	wantError(t, err, transport.ErrLoginRequired, "not completed in time")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not wrap DeadlineExceeded", err)
	}
	tab := <-opened
	wantClosed(t, back)
	tab.WaitFor("asks for access")
	tab.Click(allow)
	tab.WaitFor("ERR_CONNECTION_REFUSED")
}

// C35, C36: the browser sees a reference only, and the answer has the issuer.
func realPushed(t *testing.T, w *realWorld) {
	w.cfg.PAR = true
	if !w.cfg.Provider.SendsIss {
		t.Error("the metadata does not promise iss")
	}
	done := w.opens(func(u string, tab *realparts.Tab) {
		if q, err := url.Parse(u); err != nil || len(q.Query()) != 2 || !q.Query().Has("request_uri") {
			t.Errorf("the browser is sent to %s", u)
		}
		tab.WaitFor("asks for access")
		tab.Click(allow)
		tab.WaitFor("You are logged in")
	})
	rec, err := Loopback(w.ctx, w.cfg)
	<-done
	w.wantLogin(rec, err)
	if !strings.Contains(w.out.String(), "It must be opened before") {
		t.Errorf("the user was not told that the address expires:\n%s", w.out)
	}
}

func realConfidential(t *testing.T, w *realWorld) {
	w.use(w.as.Confidential)
	realAllowed(t, w)
	realPushed(t, w)
}

// The browser ends at a page that it cannot open, with the address that is pasted.
func realPaste(t *testing.T, w *realWorld) {
	r, in := io.Pipe()
	defer in.Close()
	w.cfg.In = r
	w.cfg.OnPrompt = func(p Prompt) {
		go w.act(func() {
			tab := w.profile.Open(p.URL)
			tab.WaitFor("asks for access")
			tab.Click(allow)
			tab.WaitFor("ERR_UNSAFE_PORT")
			history := tab.History()
			io.WriteString(in, history[len(history)-1]+"\n")
		})
	}
	rec, err := Paste(w.ctx, w.cfg)
	w.wantLogin(rec, err)
}

func realDevice(t *testing.T, w *realWorld) {
	w.cfg.OnPrompt = func(p Prompt) {
		go w.act(func() {
			tab := w.profile.Open(p.CompleteURL)
			tab.WaitFor(p.UserCode)
			tab.Click("button")
			tab.WaitFor("asks for access")
			tab.Click(allow)
			tab.WaitFor("Device connected")
		})
	}
	rec, err := Device(w.ctx, w.cfg)
	w.wantLogin(rec, err)
}

func realDeviceRefused(t *testing.T, w *realWorld) {
	w.cfg.OnPrompt = func(p Prompt) { w.as.DenyDevice(p.UserCode) }
	_, err := Device(w.ctx, w.cfg)
	wantError(t, err, transport.ErrLoginRequired, "access_denied")
}
