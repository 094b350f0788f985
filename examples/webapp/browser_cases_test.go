//go:build unix

package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

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
