package realparts_test

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

func TestProviderDeviceLogin(t *testing.T) {
	p := realparts.OIDCProvider(t)
	begin := func() (userCode string, poll func() (int, map[string]any)) {
		status, answer := post(t, p.Issuer+"/device/auth", p.Public, url.Values{"scope": {"openid offline_access"}})
		if status != http.StatusOK {
			t.Fatalf("device authorization: HTTP %d %v", status, answer)
		}
		form := url.Values{
			"grant_type":  {"urn:ietf:params:oauth:grant-type:device_code"},
			"device_code": {answer["device_code"].(string)},
		}
		return answer["user_code"].(string), func() (int, map[string]any) {
			return post(t, p.Issuer+"/token", p.Public, form)
		}
	}

	userCode, poll := begin()
	if status, answer := poll(); answer["error"] != "authorization_pending" {
		t.Errorf("before the approval: HTTP %d %v", status, answer)
	}
	p.ApproveDevice(userCode, "bob")
	status, answer := poll()
	if status != http.StatusOK || answer["refresh_token"] == nil {
		t.Fatalf("after the approval: HTTP %d %v", status, answer)
	}
	if status, answer := post(t, p.Issuer+"/token", p.Public, refresh(answer["refresh_token"].(string))); status != http.StatusOK {
		t.Errorf("refresh: HTTP %d %v", status, answer)
	}

	userCode, poll = begin()
	p.DenyDevice(userCode)
	if status, answer := poll(); answer["error"] != "access_denied" {
		t.Errorf("after the refusal: HTTP %d %v", status, answer)
	}
}

// A browser, reduced to what a login needs: cookies and redirects, up to the one that
// leads back to the application.
func TestProviderBrowserLogin(t *testing.T) {
	const redirectURI = "http://127.0.0.1:9/callback"
	verifier := strings.Repeat("v", 43)
	challenge := sha256.Sum256([]byte(verifier))

	tests := []struct {
		name, flag, decision string
		want                 string // A parameter that leads back to the application.
	}{
		{name: "without asking", flag: "--login=auto", want: "code"},
		{name: "allow", flag: "--login=page", decision: "allow", want: "code"},
		{name: "deny", flag: "--login=page", decision: "deny", want: "error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := realparts.OIDCProvider(t, tt.flag)
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			browser := &http.Client{Jar: jar, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
				if strings.HasPrefix(req.URL.String(), redirectURI) {
					return http.ErrUseLastResponse
				}
				return nil
			}}
			resp, err := browser.Get(p.Issuer + "/auth?" + url.Values{
				"client_id": {p.Public.ID}, "response_type": {"code"}, "redirect_uri": {redirectURI},
				"scope": {"openid offline_access"}, "state": {"s"},
				"code_challenge_method": {"S256"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])},
			}.Encode())
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if tt.decision != "" {
				if !strings.Contains(string(body), `value="`+tt.decision+`"`) {
					t.Fatalf("HTTP %d, no such button on the page: %s", resp.StatusCode, body)
				}
				resp, err = browser.PostForm(resp.Request.URL.String(), url.Values{"account": {"bob"}, "decision": {tt.decision}})
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			back, err := resp.Location()
			if err != nil {
				t.Fatalf("HTTP %d from %s: %v: %s", resp.StatusCode, resp.Request.URL.Path, err, body)
			}
			value := back.Query().Get(tt.want)
			if value == "" || back.Query().Get("state") != "s" || back.Query().Get("iss") != p.Issuer {
				t.Fatalf("led back to %s, want %s", back, tt.want)
			}
			if tt.want != "code" {
				return
			}
			status, answer := post(t, p.Issuer+"/token", p.Public, url.Values{
				"grant_type": {"authorization_code"}, "code": {value}, "redirect_uri": {redirectURI}, "code_verifier": {verifier},
			})
			if status != http.StatusOK || answer["refresh_token"] == nil {
				t.Errorf("exchange: HTTP %d %v", status, answer["error"])
			}
		})
	}
}
