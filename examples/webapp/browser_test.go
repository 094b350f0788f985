//go:build unix

package main

import (
	"context"
	"errors"
	"strings"
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
