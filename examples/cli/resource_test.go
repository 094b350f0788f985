//go:build !darwin && !windows

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// printedToken is a token as the helpers print it.
var printedToken = regexp.MustCompile(`(?m)(?:^|^Authorization: Bearer |^password=|"token":")([\w.-]+)(?:$|"})`)

// One login is good for several APIs, each of which gets the token that is for it. As for
// TestScripts, the browser is the test binary.
func TestResources(t *testing.T) {
	cmds := map[string]func(*testscript.TestScript, bool, []string){
		// directed: no API was sent a token that is for another one.
		"directed": func(ts *testscript.TestScript, _ bool, _ []string) {
			if c := stageOf(ts).srv.Counts(); c.APICalls == 0 || c.Misdirected+c.Reuses > 0 {
				ts.Fatalf("the server has seen %+v", c)
			}
		},
		// accepted URL: the API there accepts the token that the last command printed.
		"accepted": func(ts *testscript.TestScript, neg bool, args []string) {
			token := printedToken.FindStringSubmatch(ts.ReadFile("stdout"))
			if token == nil {
				ts.Fatalf("there is no token")
			}
			req, err := http.NewRequest(http.MethodGet, args[0]+"/api/me", nil)
			ts.Check(err)
			req.Header.Set("Authorization", "Bearer "+token[1])
			resp, err := http.DefaultClient.Do(req)
			ts.Check(err)
			resp.Body.Close()
			if (resp.StatusCode == http.StatusOK) == neg {
				ts.Fatalf("the API answers %s", resp.Status)
			}
		},
		// git URL [FILE]: the file git holds what git says about the URL, and about the password in
		// the other file.
		"git": func(ts *testscript.TestScript, _ bool, args []string) {
			u, err := url.Parse(args[0])
			ts.Check(err)
			text := fmt.Sprintf("protocol=%s\nhost=%s\n", u.Scheme, u.Host)
			if len(args) > 1 {
				text += "password=" + ts.ReadFile(args[1])
			}
			ts.Check(os.WriteFile(ts.MkAbs("git"), []byte(text), 0o600))
		},
		// age: no token is as new as one that is not replaced, whoever refuses it.
		"age": func(ts *testscript.TestScript, _ bool, _ []string) {
			ts.Check(age(ts.Getenv("STAYAUTH_DIR"), time.Hour))
		},
	}
	for name, cmd := range scriptCommands {
		cmds[name] = cmd
	}
	testscript.Run(t, testscript.Params{Dir: "testdata/resources", Cmds: cmds, Condition: condition(t.TempDir()), Setup: func(env *testscript.Env) error {
		provider := users
		var apis []*httptest.Server
		for _, name := range []string{"FILES", "MAIL", "OTHER"} {
			api := httptest.NewUnstartedServer(nil)
			env.Defer(api.Close)
			apis = append(apis, api)
			origin := "http://" + api.Listener.Addr().String()
			env.Setenv(name, origin)
			provider.Resources = append(provider.Resources, origin)
		}
		if err := setup(provider, "file", nil)(env); err != nil {
			return err
		}
		for _, api := range apis {
			api.Config.Handler = env.Values["stage"].(*stage).srv.Handler()
			api.Start()
		}
		return nil
	}})
}

// The address of a request says which resource it is about.
func TestResourceOf(t *testing.T) {
	p := profile{Resources: list{"https://api.test", "https://api.test/mail/", "http://api.test", "urn:api"}}
	for address, want := range map[string]string{
		"https://api.test": "https://api.test", "https://api.test/x": "https://api.test", "https://api.test/mailbox": "https://api.test",
		"https://api.test/mail": "https://api.test/mail/", "https://api.test/mail/1": "https://api.test/mail/",
		"https://api.test:8443/": "", "https://api.test.evil.test/": "", "https://other.test/?https://api.test": "",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.resourceOf(u); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
