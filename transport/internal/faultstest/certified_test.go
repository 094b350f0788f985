package faultstest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// The whole life of a login at a server that nobody here wrote, with strict
// rotation and without any grace.
func TestCertifiedProvider(t *testing.T) {
	// The server counts in whole seconds: a token that it calls good for three may
	// be good for little more than two, so it is renewed earlier than by default.
	p := realparts.OIDCProvider(t, "--access-token-ttl=3")
	const afterExpiry = 3100 * time.Millisecond
	api, err := url.Parse(p.API)
	if err != nil {
		t.Fatal(err)
	}
	plan := plan{Dir: t.TempDir(), TokenURL: p.Issuer + "/token", API: p.API, Origin: api.Scheme + "://" + api.Host,
		Client: client{ID: p.Public.ID}, TTL: 3 * time.Second, Lead: 1500 * time.Millisecond}
	cache, err := plan.cache()
	if err != nil {
		t.Fatal(err)
	}

	// The processes, this one among them, must say nothing but that all is well, and no
	// token in any case.
	var mu sync.Mutex
	calls := 0
	hear := func(r report) {
		mu.Lock()
		defer mu.Unlock()
		calls += r.Calls
		if said := r.Failed + r.Fatal; said != "" {
			if rec, _, err := cache.Load(context.Background(), plan.key()); err == nil {
				for _, secret := range []tokencache.Secret{rec.AccessToken, rec.RefreshToken, rec.IDToken} {
					if secret != "" {
						said = strings.ReplaceAll(said, string(secret), "A TOKEN")
					}
				}
			}
			t.Errorf("a process said: %s", said)
		}
	}
	program := func() (call func(), end func()) {
		c := caller{plan: plan, tell: hear}
		return func() { hear(c.call()) }, func() {
			if err := c.close(); err != nil {
				t.Error(err)
			}
		}
	}

	// Obtain: an authorization code with PKCE, as a browser would bring it.
	redirectURI := "http://127.0.0.1:54321/cb"
	verifier := oauth2.GenerateVerifier()
	rec, err := plan.endpoint(nil).Exchange(t.Context(), authorize(t, p, redirectURI, verifier), verifier, redirectURI)
	if err != nil {
		t.Fatal(err)
	}
	user, _, err := plan.source(hear)
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}

	// Call, through ten rotations.
	call, end := program()
	for last := time.Now().Add(time.Minute); p.Counts().OK["refresh_token"] < 10 && time.Now().Before(last) && !t.Failed(); time.Sleep(20 * time.Millisecond) {
		call()
	}
	end()

	// Restart, after the access token has expired.
	time.Sleep(afterExpiry)
	call, end = program()
	call()
	end()

	// Four processes at once.
	begun, before, calledBefore := time.Now(), p.Counts(), calls
	var processes [4]process
	for i := range processes {
		if err := processes[i].start(plan, hear); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(10 * time.Second)
	for p.Counts().OK["refresh_token"] < before.OK["refresh_token"]+3 && time.Since(begun) < time.Minute {
		time.Sleep(100 * time.Millisecond) // until even a busy machine has got so far
	}
	for i := range processes {
		if err := processes[i].end(); err != nil {
			t.Error(err)
		}
	}
	after := p.Counts()
	rotations := after.OK["refresh_token"] - before.OK["refresh_token"]
	t.Logf("four processes: %d calls, %d rotations", calls-calledBefore, rotations)
	if most := int(time.Since(begun)/time.Second) + 1; rotations < 3 || rotations > most || calls == calledBefore {
		t.Errorf("%d calls, and %d rotations, want 3 to %d", calls-calledBefore, rotations, most)
	}
	if after.Reuses != 0 || after.Revoked != 0 || len(after.Errors) != 0 {
		t.Errorf("the server has seen %d reuses, and errors: %v", after.Reuses, after.Errors)
	}

	// Revoke, at the provider.
	call, end = program()
	call()
	end()
	stored, _, err := cache.Load(t.Context(), plan.key())
	if err != nil {
		t.Fatal(err)
	}
	p.Revoke(string(stored.RefreshToken))
	time.Sleep(afterExpiry)
	if _, err := user.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("after the login was revoked: %v", err)
	}
	if n := p.Counts().Reuses; n != 0 {
		t.Errorf("%d reuses", n)
	}
}

// authorize returns an authorization code. The provider logs everybody in.
func authorize(t *testing.T, p *realparts.Provider, redirectURI, verifier string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(verifier))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var code string
	browser := &http.Client{Jar: jar, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), redirectURI) {
			code = req.URL.Query().Get("code")
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := browser.Get(p.Issuer + "/auth?" + url.Values{
		"response_type": {"code"}, "client_id": {p.Public.ID}, "redirect_uri": {redirectURI}, "scope": {"openid offline_access"}, "prompt": {"consent"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}, "state": {"x"},
	}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if code == "" {
		t.Fatalf("no code: status %d at %s", resp.StatusCode, resp.Request.URL.Path)
	}
	return code
}
