package transport

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/testdata/realparts"
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
	plan := crashPlan{Dir: t.TempDir(), TokenURL: p.Issuer + "/token", APIURL: p.API, APIOrigin: api.Scheme + "://" + api.Host,
		ClientID: p.Public.ID, Lead: 1500 * time.Millisecond, UntilEOF: true}
	s, err := plan.source()
	if err != nil {
		t.Fatal(err)
	}

	// Obtain: an authorization code with PKCE, as a browser would bring it.
	redirectURI := "http://127.0.0.1:54321/cb"
	verifier := oauth2.GenerateVerifier()
	rec, err := s.cfg.Refresher.(*Endpoint).Exchange(t.Context(), authorize(t, p, redirectURI, verifier), verifier, redirectURI)
	if err != nil {
		t.Fatal(err)
	}
	noteSecrets([]string{string(rec.AccessToken), string(rec.RefreshToken), string(rec.IDToken)})
	if err := s.Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}

	// Call, through ten rotations.
	for end := time.Now().Add(time.Minute); p.Counts().OK["refresh_token"] < 10 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := plan.call(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	// Restart, after the access token has expired.
	time.Sleep(afterExpiry)
	if s, err = plan.source(); err != nil {
		t.Fatal(err)
	}
	if err := plan.call(s); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	// Four processes at once.
	before := p.Counts()
	arg, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stop []func()
	var outs [4]bytes.Buffer
	for i := range outs {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), crashPlanEnv+"="+string(arg))
		cmd.Stdout, cmd.Stderr = &outs[i], &outs[i]
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop = append(stop, func() {
			stdin.Close()
			if err := cmd.Wait(); err != nil || outs[i].Len() > 0 {
				t.Errorf("a process ended with %v and said: %s", err, outs[i].String())
			}
		})
	}
	begun := time.Now()
	time.Sleep(10 * time.Second)
	for _, f := range stop {
		f()
	}
	after := p.Counts()
	rotations, calls := after.OK["refresh_token"]-before.OK["refresh_token"], after.APICalls-before.APICalls
	t.Logf("four processes: %d calls, %d rotations", calls, rotations)
	if most := int(time.Since(begun)/(1500*time.Millisecond)) + 1; rotations < 3 || rotations > most || calls < 100 {
		t.Errorf("%d calls, and %d rotations, want 3 to %d", calls, rotations, most)
	}
	if after.Reuses != 0 || after.Revoked != 0 || len(after.Errors) != 0 {
		t.Errorf("the server has seen %d reuses, and errors: %v", after.Reuses, after.Errors)
	}

	// Revoke, at the provider.
	if s, err = plan.source(); err != nil {
		t.Fatal(err)
	}
	if err := plan.call(s); err != nil {
		t.Fatal(err)
	}
	stored, _, err := s.cfg.Cache.Load(t.Context(), s.cfg.Key)
	if err != nil {
		t.Fatal(err)
	}
	noteSecrets([]string{string(stored.AccessToken), string(stored.RefreshToken), string(stored.IDToken)})
	p.Revoke(string(stored.RefreshToken))
	time.Sleep(afterExpiry)
	if err := plan.call(s); !errors.Is(err, ErrLoginRequired) {
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
