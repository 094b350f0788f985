package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// TestLook saves pictures of every page, in light, in dark, and on a phone, as artifacts
// (go test -artifacts), for people to look at.
func TestLook(t *testing.T) {
	s := startSite(t, options{tokenLife: 3 * time.Second})
	profile := realparts.StartChromium(t).NewProfile(t)
	tab := profile.Open(s.url)
	open := func(path, text, name string) {
		tab.Go(s.url + path)
		tab.WaitFor(text)
		tab.Look(name)
	}
	open("/sign-in", "Password", "sign-in")
	tab.Fill("#name", "ann")
	tab.Fill("#password", "wrong")
	tab.Click("#sign-in")
	tab.WaitFor("There is no user")
	tab.Look("sign-in-failed")
	tab.Fill("#name", "ann")
	tab.Fill("#password", "ann")
	tab.Click("#sign-in")
	tab.WaitFor("No account is connected")
	tab.Look("nothing-connected")
	tab.Click("#connect")
	tab.WaitFor("The provider asks you")
	tab.Look("provider")
	tab.Click(`[value="deny"]`)
	tab.WaitFor("You did not allow this site")
	tab.Look("refused")
	tab.Click("a")
	tab.WaitFor("No account is connected")
	tab.Click("#connect")
	tab.WaitFor("The provider asks you")
	tab.Click(`[value="allow"]`)
	tab.WaitFor("Connected since")
	tab.Click("summary")
	tab.Fill("#label", "the office in Wales")
	tab.Look("accounts")
	tab.Click("#connect-another")
	tab.WaitFor("The provider asks you")
	tab.Fill(`[name="login_hint"]`, "a-rather-long-name-of-somebody@office.example.com")
	tab.Click(`[value="allow"]`)
	tab.WaitFor("Wales")
	open("/call", "account", "call")

	s.provider.RevokeFamily(s.provider.Current("ann@provider.example").RefreshToken)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		tab.Go(s.url + "/call")
		tab.WaitFor("Call the API")
		var body string
		tab.Eval(`document.body.innerText`, &body)
		if strings.Contains(body, "not connected any more") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(body)
		}
	}
	tab.Look("call-ended")
	open("/accounts", "not connected any more", "accounts-ended")
	open("/events", "login required", "events")
	open("/callback?code=1&state=2", "This was not started here", "not-started")
}
