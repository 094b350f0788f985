package vaulttransit_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/vaulttransit"
)

// What data keys and tokens go to is chosen with care.
func TestNew(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://vault.internal:8200": true, "https://proxy.internal/vault/": true, "http://127.0.0.2:8200": true, "http://localhost:8100": true, "http://[::1]:8200": true,
		"": false, "vault.internal:8200": false, "http://vault.internal:8200": false, "http://127.0.0.1.example.com": false, "ftp://127.0.0.1": false,
		"https://user:password@vault.internal": false, "https://vault.internal?x": false, "https://": false, "https://vault.internal/#x": false, "unix:/run/vault": false,
	} {
		_, err := vaulttransit.New(vaulttransit.Config{Address: address, Key: "logins"})
		if (err == nil) != ok {
			t.Errorf("Address %q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "password") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	for _, name := range []string{"", "a/b", "..", "a?b", "a b", "a:v1", strings.Repeat("a", 600)} {
		for _, cfg := range []vaulttransit.Config{{Key: name}, {Key: "logins", OldKeys: []string{name}}} {
			cfg.Address = "https://vault.internal"
			if _, err := vaulttransit.New(cfg); err == nil {
				t.Errorf("New takes %+v", cfg)
			}
		}
	}
}

// fake is a server whose answers are those of a test.
func fake(t *testing.T, handler http.HandlerFunc) *vaulttransit.Wrapper {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return mustNew(t, vaulttransit.Config{Address: server.URL, Key: "logins", Token: fixed("s.token")})
}

var wrappedKey = tokencache.WrappedKey{KeyID: "logins:v1", Data: []byte("vault:v1:" + base64.StdEncoding.EncodeToString([]byte("a wrapped key")))}

// An answer that says nothing of the wrapped key is never taken for a damaged one: nobody
// gives up a login because of a proxy.
func TestAnswers(t *testing.T) {
	const kms = `{"errors":["%s"]}`
	for _, tt := range []struct {
		status     int
		body, says string
		calls      int32
	}{
		{200, `<html>login</html>`, "not that of a transit engine", 1},
		{200, `{}`, "not that of a transit engine", 1},
		{200, `{"data":{"ciphertext":"hello","plaintext":"%%%"}}`, "not that of a transit engine", 1},
		{200, `{"data":{"ciphertext":"vault:v1:","plaintext":""}}`, "not that of a transit engine", 1},
		{200, `{"data":{"ciphertext":"vault:vx:abc","plaintext":7}}`, "not that of a transit engine", 1},
		{200, `{"data":{"ciphertext":"` + strings.Repeat("x", 70000) + `"}}`, "not that of a transit engine", 1},
		{301, ``, "redirects", 1},
		{307, ``, "redirects", 1},
		{400, `damaged`, "aes256-gcm96", 1},
		{400, fmt.Sprintf(kms, "missing 'context' for key derivation"), "not derived", 1},
		{403, fmt.Sprintf(kms, "permission denied"), "lacks update on transit/", 1},
		{404, ``, "Config.Mount", 1},
		{405, ``, "status 405", 1},
		{429, fmt.Sprintf(kms, "rate limit quota exceeded"), "rate of requests", 3},
		{500, fmt.Sprintf(kms, "internal error"), "status 500", 3},
		{502, `<html>bad gateway</html>`, "status 502", 3},
		{503, fmt.Sprintf(kms, "Vault is sealed"), "unseal it", 3},
	} {
		t.Run(fmt.Sprint(tt.status, tt.body[:min(len(tt.body), 40)]), func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			w := fake(t, func(rw http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				rw.Header().Set("Location", "/elsewhere")
				rw.WriteHeader(tt.status)
				sent, _ := io.ReadAll(r.Body) // No error repeats it.
				fmt.Fprint(rw, strings.Replace(tt.body, "]}", `], "sent": `+string(sent)+"}", 1))
			})
			keycheck.Unavailable(t, w, wrappedKey, tt.says)
			if n := calls.Load(); n != 2*tt.calls {
				t.Errorf("two calls sent %d requests, want %d", n, 2*tt.calls)
			}
		})
	}
}

// A token follows no redirect: it would be sent to wherever the answer says, with the data key.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	w := fake(t, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	keycheck.Unavailable(t, w, wrappedKey, "load balancer")
	if reached.Load() {
		t.Error("the redirect was followed")
	}
}

// What is sent is what the API takes, and the token is asked for each time.
func TestRequests(t *testing.T) {
	var requests []string
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var body map[string]string
		json.NewDecoder(r.Body).Decode(&body)
		delete(body, "plaintext")
		requests = append(requests, fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header.Get("X-Vault-Token"), " ", r.Header.Get("X-Vault-Namespace"), " ", r.Header.Get("X-Vault-Request"), " ", body))
		fmt.Fprint(rw, `{"data":{"ciphertext":"vault:v12:YQ==","plaintext":"YQ=="}}`)
	}))
	defer server.Close()
	tokens := 0
	w := mustNew(t, vaulttransit.Config{Address: server.URL + "/proxy/", Key: "logins", Mount: "team/transit", Namespace: "ns",
		Token: func(context.Context) (tokencache.Secret, error) {
			tokens++
			return tokencache.Secret(fmt.Sprint("t", tokens)), nil
		}})
	wrapped, err := w.WrapKey(t.Context(), keycheck.NewKey())
	if err != nil || wrapped.KeyID != "logins:v12" {
		t.Fatalf("%q, %v", wrapped.KeyID, err)
	}
	if _, err := w.UnwrapKey(t.Context(), wrapped); err != nil {
		t.Fatal(err)
	}
	data := base64.StdEncoding.EncodeToString([]byte("stayauth data key v1"))
	want := []string{
		"POST /proxy/v1/team/transit/encrypt/logins t1 ns true map[associated_data:" + data + "]",
		"POST /proxy/v1/team/transit/decrypt/logins t2 ns true map[associated_data:" + data + " ciphertext:vault:v12:YQ==]",
	}
	if got := strings.Join(requests, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("sent\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An error of Config.Client or Config.Token may hold anything, and is not shown.
func TestErrorsOfOthers(t *testing.T) {
	secret := errors.New("s.secret")
	for _, cfg := range []vaulttransit.Config{
		{Client: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, secret })}},
		{Token: func(context.Context) (tokencache.Secret, error) { return "", secret }},
	} {
		cfg.Address, cfg.Key = "https://vault.internal", "logins"
		_, err := mustNew(t, cfg).UnwrapKey(t.Context(), wrappedKey)
		keycheck.CannotUse(t, err, "")
		if strings.Contains(fmt.Sprintf("%+v", err), "s.secret") {
			t.Errorf("the error shows what somebody else said: %v", err)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", mustNew(t, vaulttransit.Config{Address: "https://vault.internal", Key: "logins", Token: fixed("s.secret")}), vaulttransit.Config{Token: fixed("s.secret")}, vaulttransit.Config{Token: fixed("s.secret")}); strings.Contains(text, "s.secret") {
		t.Errorf("printed: %s", text)
	}
}

// Whoever can write to the store chooses what is unwrapped.
func FuzzUnwrapKey(f *testing.F) {
	f.Add("logins:v1", wrappedKey.Data)
	f.Add("logins:v1", []byte("vault:v1:"))
	f.Add("other:v1", wrappedKey.Data)
	f.Add("logins:v", []byte("vault:v:x"))
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		w := mustNew(t, vaulttransit.Config{Address: "https://vault.internal", Key: "logins", Client: &http.Client{
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.String() != "https://vault.internal/v1/transit/decrypt/logins" || !strings.HasPrefix(id, "logins:v") {
					t.Errorf("KeyID %q sends a request to %s", id, r.URL)
				}
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"data":{"plaintext":"YQ=="}}`))}, nil
			}),
		}})
		key, err := w.UnwrapKey(t.Context(), tokencache.WrappedKey{KeyID: id, Data: data})
		if (err == nil) != (string(key) == "a") || err != nil && !errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("%q, %v", key, err)
		}
	})
}
