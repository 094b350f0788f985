package oauthtest_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// postPublic sends a form as a public client.
func (c client) postPublic(path string, kv ...string) (answer, error) {
	form := url.Values{"client_id": {c.s.ClientID()}}
	for i := 0; i < len(kv); i += 2 {
		form.Add(kv[i], kv[i+1])
	}
	req, _ := http.NewRequest("POST", c.s.URL()+path, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.send(req)
}

const (
	verifier = "a-code-verifier-that-is-43-characters-long-"
	callback = "http://127.0.0.1:7777/cb?keep=1"
)

// authorize goes to the authorization endpoint like a browser, and returns where
// it is sent back to, or the status.
func (c client) authorize(change url.Values) (url.Values, int) {
	c.t.Helper()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {c.s.ClientID()}, "redirect_uri": {callback}, "state": {"st"}, "login_hint": {"alice"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for k, v := range change {
		q[k] = v
	}
	req, _ := http.NewRequest("GET", c.s.URL()+"/authorize?"+q.Encode(), nil)
	a, err := c.send(req)
	if err != nil {
		c.t.Fatal(err)
	}
	back, found := strings.CutPrefix(a.Header.Get("Location"), "http://127.0.0.1:7777/cb?")
	if found != (a.Status == 302) {
		c.t.Fatalf("status %d to %q", a.Status, a.Header.Get("Location"))
	}
	answer, _ := url.ParseQuery(back)
	return answer, a.Status
}

func TestCodeGrant(t *testing.T) {
	c := inMemory(t, Config{Policy: StrictFamily, AuthStyle: AuthNone, Scope: "api mail"})
	redeem := func(code, redirect, verifier string) answer {
		t.Helper()
		a, err := c.postPublic("/token", "grant_type", "authorization_code", "code", code, "redirect_uri", redirect, "code_verifier", verifier)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	back, _ := c.authorize(url.Values{"scope": {"mail"}})
	if back.Get("state") != "st" || back.Get("iss") != c.s.URL() || back.Get("keep") != "1" {
		t.Errorf("callback %v", back)
	}
	code := back.Get("code")
	for name, a := range map[string]answer{
		"redirect_uri": redeem(code, "http://127.0.0.1:7777/cb", verifier),
		"verifier":     redeem(code, callback, strings.ToUpper(verifier)),
		"no verifier":  redeem(code, callback, ""),
		"code":         redeem("code-guess", callback, verifier),
	} {
		if a.Error != "invalid_grant" {
			t.Errorf("wrong %s: %d %s", name, a.Status, a.Error)
		}
	}
	a := redeem(code, callback, verifier)
	if a.Status != 200 || a.RefreshToken == "" || a.Scope != "mail" || !strings.Contains(c.call(a.AccessToken, "").Body, `"account":"alice"`) {
		t.Fatal(a.Status, a.Error)
	}
	if !slices.Contains(c.s.Secrets(), code) || !slices.Contains(c.s.Secrets(), verifier) {
		t.Error("code or verifier missing in Secrets")
	}
	// A code that comes twice ends the login (RFC 6749 section 4.1.2).
	if b := redeem(code, callback, verifier); b.Error != "invalid_grant" || c.s.Valid(a.AccessToken) || c.s.Valid(a.RefreshToken) {
		t.Error("code used twice:", b.Status)
	}
	if n := c.s.Counts(); n.Reuses != 1 || n.FamiliesRevoked != 1 {
		t.Errorf("counts %+v", n)
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	c := inMemory(t, Config{})
	for want, change := range map[string]url.Values{
		"unsupported_response_type": {"response_type": {"token"}},
		"invalid_request":           {"code_challenge_method": {"plain"}},
		"invalid_scope":             {"scope": {"admin"}},
	} {
		if back, _ := c.authorize(change); back.Get("error") != want || back.Has("code") || back.Get("state") != "st" {
			t.Errorf("%v: %v", change, back)
		}
	}
	for _, change := range []url.Values{{"client_id": {"other"}}, {"redirect_uri": {"/relative"}}, {"redirect_uri": {"https://a/#f"}}} {
		if _, status := c.authorize(change); status != 400 {
			t.Errorf("%v: status %d, want no redirect", change, status)
		}
	}
}

func TestDeviceGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, Config{Policy: Strict})
		type start struct {
			DeviceCode string `json:"device_code"`
			UserCode   string `json:"user_code"`
			Interval   int
		}
		begin := func() (d start) {
			a, err := c.post("/device_authorization", "scope", "api")
			if err != nil || json.Unmarshal([]byte(a.Body), &d) != nil || d.Interval != 5 {
				t.Fatal(a.Status, err)
			}
			return d
		}
		poll := func(d start, want string) answer {
			t.Helper()
			a, err := c.post("/token", "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", d.DeviceCode)
			if err != nil || a.Error != want {
				t.Fatalf("%d %q, %v; want %q", a.Status, a.Error, err, want)
			}
			return a
		}
		d := begin()
		poll(d, "authorization_pending")
		time.Sleep(5 * time.Second)
		poll(d, "authorization_pending")
		time.Sleep(4 * time.Second)
		poll(d, "slow_down") // ten seconds from now on
		time.Sleep(9 * time.Second)
		poll(d, "slow_down") // fifteen
		if !c.s.ApproveDevice(d.UserCode, "bob") || c.s.ApproveDevice("ABCD-1234", "bob") {
			t.Error("ApproveDevice")
		}
		time.Sleep(15 * time.Second)
		if a := poll(d, ""); c.refresh(a.RefreshToken).Status != 200 {
			t.Error("no usable login")
		}
		poll(d, "invalid_grant")

		for want, try := range map[string]func() (answer, error){
			"invalid_client": func() (answer, error) { return c.postPublic("/device_authorization") },
			"invalid_scope":  func() (answer, error) { return c.post("/device_authorization", "scope", "admin") },
		} {
			if a, err := try(); err != nil || a.Error != want {
				t.Errorf("%d %q, %v; want %q", a.Status, a.Error, err, want)
			}
		}
		d = begin()
		if !c.s.DenyDevice(d.UserCode) {
			t.Error("DenyDevice")
		}
		poll(d, "access_denied")
		d = begin()
		time.Sleep(10 * time.Minute)
		poll(d, "expired_token")
		if c.s.ApproveDevice(d.UserCode, "bob") {
			t.Error("approved a code that has expired")
		}
	})
}

func TestMetadata(t *testing.T) {
	c := inMemory(t, Config{AuthStyle: AuthPost})
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		req, _ := http.NewRequest("GET", c.s.URL()+path, nil)
		a, err := c.send(req)
		var m struct {
			Issuer  string
			Token   string   `json:"token_endpoint"`
			Methods []string `json:"token_endpoint_auth_methods_supported"`
		}
		if err != nil || json.Unmarshal([]byte(a.Body), &m) != nil || m.Issuer != c.s.URL() || m.Token != c.s.TokenURL() || !slices.Equal(m.Methods, []string{"client_secret_post"}) {
			t.Errorf("%s: %+v, %v", path, m, err)
		}
	}
}
