package realparts_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// post sends a form to one of the provider's endpoints, as client, and decodes the answer.
func post(t *testing.T, endpoint string, client realparts.Client, form url.Values) (status int, answer map[string]any) {
	t.Helper()
	if client.Secret == "" {
		form.Set("client_id", client.ID)
	}
	req, err := http.NewRequest(http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if client.Secret != "" {
		req.SetBasicAuth(url.QueryEscape(client.ID), url.QueryEscape(client.Secret))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	defer resp.Body.Close()
	// The revocation endpoint answers with nothing at all.
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil && err != io.EOF {
		t.Errorf("%s: HTTP %d: %v", endpoint, resp.StatusCode, err)
	}
	return resp.StatusCode, answer
}

func get(t *testing.T, address, accessToken string) (status int, challenge string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if accessToken != "" {
		req.Header.Set("Authorization", "Bearer "+accessToken)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("WWW-Authenticate")
}

func refresh(refreshToken string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
}

func TestProviderRotatesStrictly(t *testing.T) {
	p := realparts.OIDCProvider(t, "--access-token-ttl=30")
	for name, client := range map[string]realparts.Client{"public": p.Public, "confidential": p.Confidential} {
		t.Run(name, func(t *testing.T) {
			before := p.Counts()
			login := p.Mint(client, "alice", "")
			if login.ExpiresIn != 30 {
				t.Errorf("expires_in = %d, want 30", login.ExpiresIn)
			}
			if status, _ := get(t, p.API, login.AccessToken); status != http.StatusOK {
				t.Errorf("API with a minted access token: HTTP %d", status)
			}

			status, first := post(t, p.Issuer+"/token", client, refresh(login.RefreshToken))
			second, _ := first["refresh_token"].(string)
			if status != http.StatusOK || second == "" || second == login.RefreshToken {
				t.Fatalf("refresh: HTTP %d %v; want another refresh token", status, first["error"])
			}
			if c := p.Counts(); c.Reuses != before.Reuses || c.OK["refresh_token"] != before.OK["refresh_token"]+1 {
				t.Errorf("after one refresh: %+v, before: %+v", c, before)
			}

			// The token that was spent comes back: its successor dies too.
			if status, answer := post(t, p.Issuer+"/token", client, refresh(login.RefreshToken)); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
				t.Errorf("reuse: HTTP %d %v", status, answer["error"])
			}
			if status, answer := post(t, p.Issuer+"/token", client, refresh(second)); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
				t.Errorf("after a reuse: HTTP %d %v", status, answer["error"])
			}
			if c := p.Counts(); c.Reuses != before.Reuses+1 || c.Revoked != before.Revoked+1 {
				t.Errorf("after a reuse: %+v, before: %+v", c, before)
			}
			if status, challenge := get(t, p.API, first["access_token"].(string)); status != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) {
				t.Errorf("API after a reuse: HTTP %d, %q", status, challenge)
			}
		})
	}
}

// Requests with the same token that arrive together may both get an answer. They are
// counted all the same: a test that asks for zero reuses must not pass by luck.
func TestProviderCountsSimultaneousReuse(t *testing.T) {
	p := realparts.OIDCProvider(t)
	login := p.Mint(p.Public, "alice", "")
	const n = 8
	var uses sync.WaitGroup
	for range n {
		uses.Go(func() { post(t, p.Issuer+"/token", p.Public, refresh(login.RefreshToken)) })
	}
	uses.Wait()
	if c := p.Counts(); c.Reuses == 0 {
		t.Errorf("%d simultaneous uses of one refresh token: no reuse was counted: %+v", n, c)
	}
}

func TestProviderDiscovery(t *testing.T) {
	p := realparts.OIDCProvider(t)
	resp, err := http.Get(p.Issuer + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var metadata map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&metadata); err != nil {
		t.Fatal(err)
	}
	if metadata["issuer"] != p.Issuer {
		t.Errorf("issuer = %v, want %s", metadata["issuer"], p.Issuer)
	}
	for _, name := range []string{
		"authorization_endpoint", "token_endpoint", "device_authorization_endpoint", "revocation_endpoint",
		"introspection_endpoint", "pushed_authorization_request_endpoint",
	} {
		if endpoint, _ := metadata[name].(string); !strings.HasPrefix(endpoint, p.Issuer+"/") {
			t.Errorf("%s = %q", name, endpoint)
		}
	}
}

func TestProviderRevocation(t *testing.T) {
	p := realparts.OIDCProvider(t)
	login, other := p.Mint(p.Confidential, "alice", ""), p.Mint(p.Confidential, "alice", "")
	refused := func(refreshToken string) {
		t.Helper()
		if status, answer := post(t, p.Issuer+"/token", p.Confidential, refresh(refreshToken)); answer["error"] != "invalid_grant" {
			t.Errorf("refresh: HTTP %d %v, want invalid_grant", status, answer["error"])
		}
	}

	p.RevokeAccessToken(login.AccessToken)
	if status, _ := get(t, p.API, login.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("API with a revoked access token: HTTP %d", status)
	}
	status, answer := post(t, p.Issuer+"/token", p.Confidential, refresh(login.RefreshToken))
	if status != http.StatusOK {
		t.Fatalf("refresh after the access token was revoked: HTTP %d %v", status, answer["error"])
	}

	// The whole login, named by a token it had in the past.
	p.Revoke(login.RefreshToken)
	refused(answer["refresh_token"].(string))
	if status, _ := get(t, p.API, other.AccessToken); status != http.StatusOK {
		t.Errorf("another login of the same account was revoked too: HTTP %d", status)
	}
	if c := p.Counts(); c.Reuses != 0 || c.Revoked != 0 {
		t.Errorf("not the provider's doing, and yet counted: %+v", c)
	}

	// The client ends its own login (RFC 7009).
	if status, answer := post(t, p.Issuer+"/token/revocation", p.Confidential, url.Values{"token": {other.RefreshToken}}); status != http.StatusOK {
		t.Fatalf("revocation: HTTP %d %v", status, answer)
	}
	refused(other.RefreshToken)
	if c := p.Counts(); c.Reuses != 0 || c.Revoked != 1 {
		t.Errorf("after a revocation: %+v", c)
	}
}

func TestProviderClientCredentials(t *testing.T) {
	p := realparts.OIDCProvider(t)
	status, answer := post(t, p.Issuer+"/token", p.Confidential, url.Values{"grant_type": {"client_credentials"}})
	if status != http.StatusOK {
		t.Fatalf("HTTP %d %v", status, answer)
	}
	if status, _ := get(t, p.API, answer["access_token"].(string)); status != http.StatusOK {
		t.Errorf("API: HTTP %d", status)
	}
	if status, challenge := get(t, p.API, ""); status != http.StatusUnauthorized || challenge != `Bearer realm="api"` {
		t.Errorf("API without a token: HTTP %d, %q", status, challenge)
	}
}
