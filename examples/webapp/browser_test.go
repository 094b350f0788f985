package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// A realProvider is one that nobody here wrote, with pages that ask the user.
type realProvider struct {
	options options // that make the application its client

	// act does what the user has to do next on the page that the tab shows, if that is one
	// of the provider's: says who it is and agrees, or refuses.
	act func(tab *realparts.Tab, body, account string, agree bool)

	revoke   func(account, token string) // ends the login at the provider
	down, up func()
	// oneAccount says that a browser has one account at the provider, whoever is to log in.
	oneAccount bool

	exchanges func() int // how many codes were exchanged
	reuses    func() int // how often a spent refresh token was presented
}

// TestOIDCProvider presses the buttons of the application, with a certified provider.
func TestOIDCProvider(t *testing.T) {
	p := realparts.OIDCProvider(t, "--login=page", "--access-token-ttl=60")
	testBrowser(t, &realProvider{
		options: options{issuer: p.Issuer, clientID: p.Confidential.ID, clientSecret: p.Confidential.Secret, api: p.API,
			scopes: "openid", moreScopes: "api"},
		act: func(tab *realparts.Tab, body, account string, agree bool) {
			if !strings.Contains(body, "asks for access") {
				return
			}
			if !agree {
				tab.Click(`button[value="deny"]`)
				return
			}
			tab.Fill(`input[name="account"]`, account)
			tab.Click(`button[value="allow"]`)
		},
		revoke:    func(_, token string) { p.Revoke(token) },
		down:      func() { p.Signal(syscall.SIGSTOP) },
		up:        func() { p.Signal(syscall.SIGCONT) },
		exchanges: func() int { return p.Counts().OK["authorization_code"] },
		reuses:    func() int { return p.Counts().Reuses },
	})
}

// TestKeycloak does the same with Keycloak, and keeps logins and sessions in PostgreSQL.
func TestKeycloak(t *testing.T) {
	k := realparts.StartKeycloak(t)
	realm := k.NewRealm(t, "people", map[string]any{"accessTokenLifespan": 60})
	realm.RequireConsent(realm.Confidential)
	for _, name := range []string{"alice", "bob"} {
		realm.AddUser(name)
	}
	testBrowser(t, &realProvider{
		options: options{issuer: realm.Issuer, clientID: realm.Confidential.ID, clientSecret: realm.Confidential.Secret, api: realm.API,
			scopes: "openid", moreScopes: "phone", store: realparts.StartPostgreSQL(t).URL()},
		act: func(tab *realparts.Tab, body, account string, agree bool) {
			switch {
			case strings.Contains(body, "Sign in to your account"):
				tab.Fill("#username", account)
				tab.Fill("#password", account)
				tab.Click("#kc-login")
			case strings.Contains(body, "Do you grant these access privileges"):
				tab.Click(map[bool]string{true: "#kc-login", false: "#kc-cancel"}[agree])
			}
		},
		revoke:     func(account, _ string) { realm.Logout(account) },
		oneAccount: true,
		down:       k.Crash,
		up:         k.Start,
		exchanges:  func() int { return realm.Counts().OK["authorization_code"] },
		reuses:     func() int { return realm.Counts().Reuses },
	})
}

func testBrowser(t *testing.T, p *realProvider) {
	chromium := realparts.StartChromium(t)
	p.options.dir = t.TempDir() // The keys stay the same, as the store does.
	for _, tt := range []struct {
		name string
		test func(*person)
	}{
		{"connect, reload, back, call", connectReloadBackCall},
		{"refuse", refuse},
		{"cancel", cancel},
		{"two tabs in the wrong order", twoTabs},
		{"two users in two profiles", twoUsers},
		{"callback replayed at the other replica", replayed},
		{"callback loaded in advance", inAdvance},
		{"session expired in between", sessionExpired},
		{"another user in between", anotherUser},
		{"revoked at the provider", revoked},
		{"more scopes and cancel", moreScopes},
		{"several accounts", severalAccounts},
		{"disconnect while the provider is down", disconnectWhileDown},
	} {
		if p.oneAccount && tt.name == "several accounts" {
			continue
		}
		if t.Failed() {
			break // Each that fails waits for a minute.
		}
		t.Run(tt.name, func(t *testing.T) {
			o := p.options
			f := newFront(t)
			o.url = f.URL
			s := startSite(t, o)
			f.passTo(s)
			before := p.reuses()
			u := &person{t: t, site: s, front: f, provider: p, browser: chromium, profile: chromium.NewProfile(t), account: "alice"}
			u.signIn("ann")
			t.Cleanup(u.forget)
			tt.test(u)
			if n := p.reuses() - before; n != 0 {
				t.Errorf("a spent refresh token was presented %d times", n)
			}
		})
	}
}

// A front is the load balancer's address. It sees what browsers send.
type front struct {
	URL string

	mu       sync.Mutex
	target   *url.URL
	answers  []string              // the callbacks that have come with a code
	onAnswer func(r *http.Request) // is told of a callback before the application is
}

func newFront(t *testing.T) *front {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{URL: "http://" + listener.Addr().String()}
	server := &http.Server{Handler: f}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return f
}

func (f *front) passTo(s *site) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = &url.URL{Scheme: "http", Host: s.addr}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	target, onAnswer := f.target, f.onAnswer
	if r.URL.Path == "/callback" && r.URL.Query().Has("code") {
		f.answers = append(f.answers, f.URL+r.URL.String())
	} else {
		onAnswer = nil
	}
	f.mu.Unlock()
	if onAnswer != nil {
		onAnswer(r)
	}
	(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host
	}}).ServeHTTP(w, r)
}

// lastAnswer is the address that the provider has sent the browser to last.
func (f *front) lastAnswer() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answers[len(f.answers)-1]
}

// A person sits in front of a browser, is signed in to the application, and has an account
// at the provider.
type person struct {
	t        *testing.T
	site     *site
	front    *front
	provider *realProvider
	browser  *realparts.Chromium
	profile  *realparts.Profile
	tab      *realparts.Tab
	account  string
}

// signIn signs in to the application, in a new tab.
func (u *person) signIn(name string) {
	u.t.Helper()
	u.tab = u.profile.Open(u.front.URL + "/sign-in")
	u.tab.WaitFor("Password")
	u.enter(name)
	u.tab.WaitFor("Sign out " + name)
}

func (u *person) enter(name string) {
	u.t.Helper()
	u.tab.Fill("#name", name)
	u.tab.Fill("#password", name)
	u.tab.Click("#sign-in")
}

// forget removes what the test has left: the provider and the store are those of the next.
func (u *person) forget() {
	ctx := context.Background()
	for _, id := range []string{"u1", "u2"} {
		accounts, err := u.site.replicas[0].web.Logins(ctx, id)
		if err != nil {
			u.t.Error(err)
		}
		for _, a := range accounts {
			if err := u.site.replicas[0].pool.Source(a.Key.Account).Forget(ctx); err != nil {
				u.t.Error(err)
			}
		}
	}
}

// answerUntil does at the provider what it asks, until the tab shows text.
func (u *person) answerUntil(tab *realparts.Tab, agree bool, text string) {
	u.t.Helper()
	var body, acted string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if tab.Eval(`document.readyState === "complete" && document.body ? document.body.innerText : ""`, &body) != nil {
			continue
		}
		if strings.Contains(body, text) {
			return
		}
		if body != acted {
			u.provider.act(tab, body, u.account, agree)
			acted = body
		}
	}
	u.t.Fatalf("the page does not show %q but:\n%s\nat %v", text, body, tab.History())
}

// atProvider waits until the tab shows a page of the provider.
func (u *person) atProvider(tab *realparts.Tab) {
	u.t.Helper()
	var at string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if tab.Eval(`document.readyState === "complete" ? location.origin : ""`, &at) == nil && at != "" && strings.HasPrefix(u.provider.options.issuer, at) {
			return
		}
	}
	u.t.Fatalf("the tab does not come to the provider, but is at %q", at)
}

// connect connects the account, from the page of accounts.
func (u *person) connect() {
	u.t.Helper()
	u.tab.Go(u.front.URL + "/accounts")
	u.tab.WaitFor("No account is connected")
	u.tab.Click("#connect")
	u.answerUntil(u.tab, true, "Connected since")
}

const lastRenewed = "Last renewed"

// shows opens a page and waits until it shows text.
func (u *person) shows(path, text string) {
	u.t.Helper()
	u.tab.Go(u.front.URL + path)
	u.tab.WaitFor(text)
}

func (u *person) body() (body string) {
	u.t.Helper()
	if err := u.tab.Eval(`document.body ? document.body.innerText : ""`, &body); err != nil {
		u.t.Fatal(err)
	}
	return body
}

// until reloads a page until it shows text.
func (u *person) until(path, text string) {
	u.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		u.shows(path, "Notebook")
		if strings.Contains(u.body(), text) {
			return
		}
	}
	u.t.Fatalf("%s does not show %q but:\n%s", path, text, u.body())
}

// wantClean checks that nothing of an answer is in the history.
func (u *person) wantClean() {
	u.t.Helper()
	for _, address := range u.tab.History() {
		if strings.Contains(address, "code=") {
			u.t.Errorf("the history has %s", address)
		}
	}
}

func connectReloadBackCall(u *person) {
	u.connect()
	u.wantClean()
	u.tab.Reload()
	u.tab.WaitFor(lastRenewed)
	u.tab.Back()
	time.Sleep(200 * time.Millisecond)
	u.shows("/accounts", lastRenewed)
	u.tab.Click(`[name="call"]`)
	u.tab.WaitFor(`"sub"`)
	u.wantClean()
}

// The page that says no can be reloaded, and leads back to where the user can start again.
func refuse(u *person) {
	u.tab.Click("#connect")
	u.answerUntil(u.tab, false, "You did not allow this site")
	u.tab.Reload()
	u.tab.WaitFor("You did not allow this site")
	u.wantClean()
	u.tab.Click("a")
	u.tab.WaitFor("No account is connected")
	u.connect()
}

// Who goes back from the provider has not connected anything, and can begin again.
func cancel(u *person) {
	u.tab.Click("#connect")
	u.atProvider(u.tab)
	u.tab.Back()
	u.tab.WaitFor("No account is connected")
	u.connect()
}

func twoTabs(u *person) {
	second := u.profile.Open(u.front.URL + "/accounts")
	second.WaitFor("No account is connected")
	u.tab.Click("#connect")
	u.atProvider(u.tab)
	second.Click("#connect")
	u.atProvider(second)
	u.answerUntil(second, true, lastRenewed)
	u.answerUntil(u.tab, true, lastRenewed)
	u.shows("/call", `"sub"`)
}

func twoUsers(u *person) {
	other := *u
	other.profile, other.account = u.browser.NewProfile(u.t), "bob"
	other.signIn("ben")
	u.connect()
	other.connect()
	u.shows("/call", `"sub"`)
	mine := u.body()
	other.shows("/call", `"sub"`)
	if theirs := other.body(); !differ(mine, theirs) {
		u.t.Errorf("both users see\n%s", mine)
	}
	other.shows("/events", "Only administrators")
}

// differ compares what the API has answered to two users.
func differ(a, b string) bool {
	_, a, _ = strings.Cut(a, `"sub"`)
	_, b, _ = strings.Cut(b, `"sub"`)
	return a != b && a != "" && b != ""
}

// W24, W20: the same answer leads on a second time, at whichever replica, and is not
// exchanged again; in another browser it is nothing.
func replayed(u *person) {
	before := u.provider.exchanges()
	u.connect()
	for range len(u.site.replicas) {
		again := u.profile.Open(u.front.lastAnswer())
		again.WaitFor(lastRenewed)
	}
	stranger := *u
	stranger.profile = u.browser.NewProfile(u.t)
	stranger.signIn("ben")
	stranger.tab.Go(u.front.lastAnswer())
	stranger.tab.WaitFor("This was not started here")
	stranger.shows("/accounts", "No account is connected")
	if n := u.provider.exchanges() - before; n != 1 {
		u.t.Errorf("%d codes were exchanged, not one", n)
	}
	u.shows("/call", `"sub"`)
}

// W19: a browser that loads the callback in advance spends nothing.
func inAdvance(u *person) {
	before := u.provider.exchanges()
	status := make(chan error, 1)
	u.front.mu.Lock()
	u.front.onAnswer = func(r *http.Request) {
		early, err := http.NewRequest(http.MethodGet, u.front.target.String()+r.URL.String(), nil)
		if err == nil {
			early.Header = r.Header.Clone()
			early.Header.Set("Sec-Purpose", "prefetch")
			var resp *http.Response
			if resp, err = http.DefaultTransport.RoundTrip(early); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusServiceUnavailable || u.provider.exchanges() != before {
					err = fmt.Errorf("HTTP %d, %d exchanges", resp.StatusCode, u.provider.exchanges()-before)
				}
			}
		}
		status <- err
	}
	u.front.mu.Unlock()
	u.connect()
	if err := <-status; err != nil {
		u.t.Error(err)
	}
	if n := u.provider.exchanges() - before; n != 1 {
		u.t.Errorf("%d codes were exchanged, not one", n)
	}
}

// W23: whose session ends while they are at the provider has connected nothing.
func sessionExpired(u *person) {
	u.tab.Click("#connect")
	u.atProvider(u.tab)
	u.site.endSessions(u.t)
	u.answerUntil(u.tab, true, "You are not signed in")
	u.wantClean()
	u.signIn("ann")
	u.connect()
}

// W23: who signs in meanwhile is not given the account of somebody else.
func anotherUser(u *person) {
	before := u.provider.exchanges()
	u.tab.Click("#connect")
	u.atProvider(u.tab)
	waiting := u.tab
	u.signIn("ben")
	u.answerUntil(waiting, true, "Somebody else is signed in now")
	if n := u.provider.exchanges() - before; n != 0 {
		u.t.Errorf("%d codes were exchanged", n)
	}
	u.shows("/accounts", "No account is connected")
}

// W40: who has taken the account away at the provider is sent there, and comes back to the
// page that needs it.
func revoked(u *person) {
	u.connect()
	token, err := u.site.replicas[0].pool.Source("u1").Token(u.t.Context())
	if err != nil {
		u.t.Fatal(err)
	}
	u.provider.revoke(u.account, string(token.AccessToken))
	u.until("/call", "not connected any more")
	u.shows("/accounts", "not connected any more")
	u.shows("/call", "not connected any more")
	u.tab.Click("#again")
	u.answerUntil(u.tab, true, `"sub"`)
	u.shows("/accounts", "Last renewed")
}

// W39: who does not allow more keeps what there is.
func moreScopes(u *person) {
	more := u.provider.options.moreScopes
	u.connect()
	u.tab.Click(`[name="more"]`)
	u.answerUntil(u.tab, false, "You did not allow this site")
	u.shows("/accounts", "Allow "+more+" too")
	u.shows("/call", `"sub"`)
	u.shows("/accounts", "Allow "+more+" too")
	u.tab.Click(`[name="more"]`)
	u.atProvider(u.tab)
	u.answerUntil(u.tab, true, lastRenewed)
	if strings.Contains(u.body(), "Allow "+more+" too") || !strings.Contains(u.body(), more) {
		u.t.Errorf("more was allowed, and the page shows\n%s", u.body())
	}
	u.shows("/call", `"sub"`)
}

// W38: a user has several accounts, and ends one of them.
func severalAccounts(u *person) {
	u.connect()
	u.tab.Click("summary")
	u.tab.Fill("#label", "work")
	u.account = "bob"
	u.tab.Click("#connect-another")
	u.answerUntil(u.tab, true, "bob")
	u.shows("/call?label=work", `"sub": "bob"`)
	u.shows("/accounts", "bob")
	u.tab.Click(`section:nth-of-type(2) [name="disconnect"]`)
	u.tab.WaitFor(lastRenewed)
	for deadline := time.Now().Add(time.Minute); strings.Contains(u.body(), "bob") || !strings.Contains(u.body(), "alice"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			u.t.Fatalf("still there:\n%s", u.body())
		}
	}
	u.shows("/call", `"sub": "alice"`)
}

// W41: what the provider cannot be told of stays, and can be ended later.
func disconnectWhileDown(u *person) {
	u.connect()
	u.provider.down()
	back := sync.OnceFunc(u.provider.up)
	defer back()
	u.tab.Click(`[name="disconnect"]`)
	u.tab.WaitFor("Your account is still connected")
	u.tab.Click("a")
	u.tab.WaitFor(lastRenewed)
	back()
	u.tab.Click(`[name="disconnect"]`)
	u.tab.WaitFor("No account is connected")
}

// endSessions ends the sessions of all users.
func (s *site) endSessions(t *testing.T) {
	t.Helper()
	sessions := s.replicas[0].sessions
	store, ok := sessions.Store.(interface {
		All() (map[string][]byte, error)
	})
	if !ok {
		t.Fatal(errors.New("the sessions cannot be listed"))
	}
	all, err := store.All()
	if err != nil {
		t.Fatal(err)
	}
	for token := range all {
		if err := sessions.Store.Delete(token); err != nil {
			t.Fatal(err)
		}
	}
}
