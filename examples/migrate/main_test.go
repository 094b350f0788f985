package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A login moves, is renewed, and is lost only by the old program.
func TestMigrate(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"imported token.json: the API answers 200 OK\nstarted again: the API answers 200 OK\n",
		"one login, 4 refreshes, and refresh tokens presented twice: 0\n",
		"not been removed: Get",
		"login required: invalid_grant",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

// The page shows these programs as they are, and names nothing that does not exist.
func TestREADME(t *testing.T) {
	read := func(path ...string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(path...))
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(text), "\r\n", "\n")
	}
	page := read("README.md")
	for _, file := range []string{"before.go", "after.go"} {
		_, code, _ := strings.Cut(read(file), "\n)\n\n") // after the imports
		code = code[strings.Index(code, "func "):]
		code = code[:strings.Index(code, "\n}\n")+3]
		if !strings.Contains(page, "```go\n"+code+"```\n") {
			t.Errorf("README.md does not show %s as it is", file)
		}
	}
	names := regexp.MustCompile(`\b(cliauth|endpoint|external|grants|login|migrate|oskeyring|pgstore|provider|redisstore|tokencache|transport)\.([A-Z]\w+)(?:\.([A-Z]\w+))?`)
	n := 0
	for _, name := range names.FindAllStringSubmatch(page, -1) {
		api := read("..", "..", "testdata", "api", name[1]+".txt")
		for _, part := range name[2:] {
			if n++; part != "" && !regexp.MustCompile(`\b`+part+`\b`).MatchString(api) {
				t.Errorf("the page names %s, which does not exist", name[0])
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d names were found", n)
	}
}

// A fixture has a provider, a login at it that is due for a refresh or not, and a Source.
type fixture struct {
	srv    *oauthtest.Server
	conf   *oauth2.Config
	source *transport.Source
}

func newFixture(t *testing.T, left time.Duration) *fixture {
	t.Helper()
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	f := &fixture{srv: srv, conf: &oauth2.Config{ClientID: srv.ClientID(), ClientSecret: srv.ClientSecret(),
		Endpoint: oauth2.Endpoint{TokenURL: srv.TokenURL(), AuthStyle: oauth2.AuthStyleInHeader}}}
	f.source = newSource(t, &endpoint.Endpoint{TokenURL: srv.TokenURL(), AuthStyle: oauth2.AuthStyleInHeader,
		ClientID: srv.ClientID(), ClientSecret: tokencache.Secret(srv.ClientSecret())})
	login := srv.Login("ann").Record()
	login.ObtainedAt, login.Expiry = time.Now().Add(-time.Hour), time.Now().Add(left)
	if err := f.source.Login(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	return f
}

func newSource(t *testing.T, r transport.Refresher) *transport.Source {
	t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: r, Key: tokencache.Key{Issuer: "https://login.example.com", ClientID: "client"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close(context.Background()) })
	return source
}

func client(t *testing.T, source *transport.Source, origins ...string) *http.Client {
	t.Helper()
	rt, err := transport.New(transport.Config{Source: source, Origins: origins})
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: rt}
}

func get(t *testing.T, c *http.Client, url string) int {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A token that the API rejects before its time is replaced by a Transport, and by no client of
// x/oauth2 over the same Source (F4 in the tests of OAuth2).
func TestTrapNewClient(t *testing.T) {
	f := newFixture(t, 2*time.Hour)
	f.srv.RevokeAccess(f.srv.Current("ann").AccessToken)
	if status := get(t, oauth2.NewClient(t.Context(), f.source.OAuth2()), f.srv.APIURL()); status != 401 {
		t.Errorf("oauth2.NewClient: %d", status)
	}
	if status := get(t, client(t, f.source, f.srv.APIOrigin()), f.srv.APIURL()); status != 200 {
		t.Errorf("Transport: %d", status)
	}
}

// The token of a client of x/oauth2 goes wherever a redirect leads.
func TestTrapRedirect(t *testing.T) {
	f := newFixture(t, 2*time.Hour)
	var got string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") }))
	defer elsewhere.Close()
	api := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer api.Close()
	if get(t, oauth2.NewClient(t.Context(), f.source.OAuth2()), api.URL); got == "" {
		t.Error("oauth2.NewClient: the token stayed")
	}
	if get(t, client(t, f.source, api.URL), api.URL); got != "" {
		t.Error("Transport: the token went elsewhere")
	}
}

// http.Client.Timeout ends the wait for a refresh, and not the refresh.
func TestTrapTimeout(t *testing.T) {
	f := newFixture(t, -time.Hour)
	answer := make(chan struct{})
	f.srv.Fault("/token", 1, func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-answer
			endpoint.ServeHTTP(w, r)
		})
	})
	c := client(t, f.source, f.srv.APIOrigin())
	c.Timeout = 50 * time.Millisecond
	if _, err := c.Get(f.srv.APIURL()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	close(answer)
	c.Timeout = 0
	if status, n := get(t, c, f.srv.APIURL()), f.srv.Counts().Rotations; status != 200 || n != 1 {
		t.Errorf("%d after %d rotations", status, n)
	}
}

// The context that x/oauth2 is given once ends all refreshes to come, and that of a call here
// ends its own wait.
func TestTrapContext(t *testing.T) {
	f := newFixture(t, -time.Hour)
	ended, end := context.WithCancel(t.Context())
	end()
	old := f.conf.TokenSource(ended, &oauth2.Token{RefreshToken: f.srv.Login("bob").RefreshToken})
	for range 2 {
		if _, err := old.Token(); !errors.Is(err, context.Canceled) {
			t.Errorf("x/oauth2: %v", err)
		}
	}
	if _, err := f.source.Token(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended call: %v", err)
	}
	if _, err := f.source.Token(t.Context()); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// To store what OAuth2 returns would store no refresh token.
func TestTrapSaving(t *testing.T) {
	f := newFixture(t, 2*time.Hour)
	if tok, err := f.source.OAuth2().Token(); err != nil || tok.RefreshToken != "" {
		t.Error("there is a refresh token, or", err)
	}
}

// Under a source that caches, such as that of oauth2.Config, a token that was rejected cannot be
// replaced.
func TestTrapCachingSource(t *testing.T) {
	f := newFixture(t, 2*time.Hour)
	login := f.srv.Login("bob")
	old := f.conf.TokenSource(t.Context(), &oauth2.Token{AccessToken: login.AccessToken, RefreshToken: login.RefreshToken, Expiry: time.Now().Add(time.Hour)})
	r := endpoint.FromTokenSource(old)
	f.srv.RevokeAccess(login.AccessToken)
	for range 2 {
		rec, err := r.Refresh(t.Context(), new(tokencache.Record))
		if err != nil || string(rec.AccessToken) != login.AccessToken {
			t.Errorf("there is another token, or %v: then the page is wrong", err)
		}
	}
}
