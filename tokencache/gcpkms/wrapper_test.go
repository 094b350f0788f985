package gcpkms_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/gcpkms"
)

var records = flag.Int("records", 100, "how many logins there are")

// client sends the token "token", as google.DefaultClient does with another.
func client(t *testing.T) *http.Client {
	return oauth2.NewClient(t.Context(), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "token"}))
}

func mustNew(t *testing.T, cfg gcpkms.Config) *gcpkms.Wrapper {
	t.Helper()
	w, err := gcpkms.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWrapAndUnwrap(t *testing.T) {
	server := start(t, keyName)
	w := mustNew(t, gcpkms.Config{Client: client(t), Key: keyName, Endpoint: server.URL})
	if _, wrapped := keycheck.Wrap(t, w); wrapped.KeyID != keyName+"/cryptoKeyVersions/1" {
		t.Errorf("wrapped with %q", wrapped.KeyID)
	}
	keycheck.Damaged(t, w)
}

// Old versions of a key open, until they are disabled or destroyed. New data keys are wrapped
// with the newest one, and say so.
func TestKeyIsRotated(t *testing.T) {
	server := start(t, keyName)
	w := mustNew(t, gcpkms.Config{Client: client(t), Key: keyName, Endpoint: server.URL})
	key, old := keycheck.Wrap(t, w)
	server.rotate(keyName)
	keycheck.Unwraps(t, w, old, key)
	newKey, wrapped := keycheck.Wrap(t, w)
	if wrapped.KeyID != keyName+"/cryptoKeyVersions/2" {
		t.Errorf("after the rotation, a key is wrapped with %s", wrapped.KeyID)
	}
	server.set(1, "DISABLED")
	keycheck.CannotUnwrap(t, w, old, "disabled or destroyed")
	keycheck.Unwraps(t, w, wrapped, newKey)
	server.set(1, "ENABLED")
	server.set(2, "DESTROY_SCHEDULED")
	keycheck.Unwraps(t, w, old, key)
	keycheck.Unavailable(t, w, wrapped, "disabled or destroyed")
}

// One key takes the place of another, which the store cannot choose.
func TestOldKeys(t *testing.T) {
	newName := strings.ReplaceAll(keyName, "logins", "newer")
	server := start(t, keyName, newName)
	cfg := gcpkms.Config{Client: client(t), Key: keyName, Endpoint: server.URL + "/"}
	key, old := keycheck.Wrap(t, mustNew(t, cfg))

	cfg.Key = newName
	if _, err := mustNew(t, cfg).UnwrapKey(t.Context(), old); !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("a key that is not configured has unwrapped: %v", err)
	}
	cfg.OldKeys = []string{keyName}
	w := mustNew(t, cfg)
	keycheck.Unwraps(t, w, old, key)
	if _, err := w.UnwrapKey(t.Context(), tokencache.WrappedKey{KeyID: newName + "/cryptoKeyVersions/1", Data: old.Data}); !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("what another key has wrapped was unwrapped: %v", err)
	}
}

// What logins cost, and what becomes of them.
func TestLogins(t *testing.T) {
	server := start(t, keyName)
	w := mustNew(t, gcpkms.Config{Client: client(t), Key: keyName, Endpoint: server.URL})
	keycheck.Cache(t, w, keycheck.Service{
		Rotate: func() { server.rotate(keyName) },
		Retire: func() { server.set(1, "DESTROYED") },
		Down:   func() { server.set(2, "DISABLED") },
		Up:     func() { server.set(2, "ENABLED") },
	}, *records)
}

// What was damaged on its way is noticed before a login depends on it, and sent again.
func TestIntegrity(t *testing.T) {
	for _, tt := range []struct {
		op, field string
		value     any
	}{
		{"encrypt", "verifiedPlaintextCrc32c", false}, {"encrypt", "verifiedAdditionalAuthenticatedDataCrc32c", false},
		{"encrypt", "ciphertextCrc32c", "1"}, {"encrypt", "ciphertext", []byte("damaged")}, {"encrypt", "ciphertextCrc32c", nil},
		{"decrypt", "plaintextCrc32c", "1"}, {"decrypt", "plaintext", []byte("damaged")}, {"decrypt", "plaintextCrc32c", nil},
	} {
		for _, times := range []int{1, 3} {
			t.Run(fmt.Sprint(tt.op, " ", tt.field, " ", times), func(t *testing.T) {
				t.Parallel()
				server := start(t, keyName)
				w := mustNew(t, gcpkms.Config{Client: client(t), Key: keyName, Endpoint: server.URL})
				key, wrapped := keycheck.Wrap(t, w)
				left := times
				server.mu.Lock()
				server.spoil = func(path string, answer map[string]any) {
					if left > 0 && strings.HasSuffix(path, tt.op) {
						left--
						if answer[tt.field] = tt.value; tt.value == nil {
							delete(answer, tt.field)
						}
					}
				}
				server.mu.Unlock()
				if times == 1 {
					keycheck.Unwraps(t, w, wrapped, key)
					keycheck.Wrap(t, w)
					return
				}
				err := error(nil)
				if tt.op == "encrypt" {
					_, err = w.WrapKey(t.Context(), key)
				} else {
					_, err = w.UnwrapKey(t.Context(), wrapped)
				}
				keycheck.CannotUse(t, err, "damaged on its way")
			})
		}
	}
}

var wrappedKey = tokencache.WrappedKey{KeyID: keyName + "/cryptoKeyVersions/1", Data: []byte("a wrapped key")}

// An answer that says nothing of the wrapped key is never taken for a damaged one: nobody
// gives up a login because of a proxy.
func TestAnswers(t *testing.T) {
	is := func(status, message string) string {
		return fmt.Sprintf(`{"error":{"status":%q,"message":%q}}`, status, message)
	}
	for _, tt := range []struct {
		status     int
		body, says string
		calls      int32
	}{
		{200, `<html>login</html>`, "not that of Cloud KMS", 1},
		{200, `{"name":7,"plaintext":7}`, "not that of Cloud KMS", 1},
		{200, `{"ciphertextCrc32c":"-1","plaintextCrc32c":"4294967296"}`, "not that of Cloud KMS", 1},
		{200, `{"ciphertext":"` + strings.Repeat("x", 70000) + `"}`, "not that of Cloud KMS", 1},
		{307, ``, "redirects", 1},
		{400, is("INVALID_ARGUMENT", "KEY is not ENCRYPT_DECRYPT"), "purpose of the key", 1},
		{400, is("INVALID_ARGUMENT", "The checksum in field x_crc32c did not match"), "damaged on its way", 3},
		{400, `Decryption failed`, "status 400", 1},
		{401, is("UNAUTHENTICATED", ""), "no valid credentials", 1},
		{403, is("PERMISSION_DENIED", ""), "roles/cloudkms.cryptoKeyEncrypterDecrypter", 1},
		{404, is("NOT_FOUND", ""), "no such key", 1},
		{404, `<html>`, "status 404", 1},
		{429, is("RESOURCE_EXHAUSTED", ""), "rate of requests", 3},
		{500, is("INTERNAL", ""), "status 500", 3},
		{503, is("UNAVAILABLE", ""), "status 503", 3},
	} {
		t.Run(fmt.Sprint(tt.status, tt.body[:min(len(tt.body), 60)]), func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
				sent, _ := io.ReadAll(r.Body) // No error repeats it.
				fmt.Fprint(w, strings.Replace(tt.body, `"message":"`, `"sent":`+string(sent)+`,"message":"`, 1))
			}))
			defer server.Close()
			w := mustNew(t, gcpkms.Config{Client: client(t), Key: keyName, Endpoint: server.URL})
			keycheck.Unavailable(t, w, wrappedKey, tt.says)
			if n := calls.Load(); n != 2*tt.calls {
				t.Errorf("two calls sent %d requests, want %d", n, 2*tt.calls)
			}
		})
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	keycheck.Unavailable(t, mustNew(t, gcpkms.Config{Client: client(t), Key: keyName, Endpoint: gone.URL}), wrappedKey, "connection refused")
	keycheck.Unavailable(t, mustNew(t, gcpkms.Config{Client: http.DefaultClient, Key: keyName, Endpoint: start(t, keyName).URL}), wrappedKey, "no valid credentials")
}

// A data key goes where the configuration says, and nowhere else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	keycheck.Unavailable(t, mustNew(t, gcpkms.Config{Client: client(t), Key: keyName, Endpoint: server.URL}), wrappedKey, "redirects")
	if reached.Load() {
		t.Error("the redirect was followed")
	}
}

type tokenSource func() (*oauth2.Token, error)

func (f tokenSource) Token() (*oauth2.Token, error) { return f() }

// The clients of package oauth2 fetch their tokens without the context of the request.
func TestTokenThatDoesNotCome(t *testing.T) {
	server := start(t, keyName)
	release := make(chan struct{})
	slow := oauth2.NewClient(t.Context(), tokenSource(func() (*oauth2.Token, error) { <-release; return nil, errors.New("s3cret") }))
	w := mustNew(t, gcpkms.Config{Client: slow, Key: keyName, Endpoint: server.URL})
	keycheck.NoAnswer(t, w, wrappedKey)
	close(release)
	_, err := w.UnwrapKey(t.Context(), wrappedKey)
	keycheck.CannotUse(t, err, "could not get a token")
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error shows what somebody else said: %v", err)
	}
}

func TestSilentServer(t *testing.T) {
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	defer server.Close()
	defer close(end)
	keycheck.NoAnswer(t, mustNew(t, gcpkms.Config{Client: client(t), Key: keyName, Endpoint: server.URL}), wrappedKey)
}

func TestNew(t *testing.T) {
	for _, name := range []string{"", "logins", keyName + "/cryptoKeyVersions/1", "/" + keyName, keyName + "?x", strings.Replace(keyName, "app", "..", 1), strings.Replace(keyName, "app", "", 1), strings.Replace(keyName, "app", "a b", 1)} {
		for _, cfg := range []gcpkms.Config{{Key: name}, {Key: keyName, OldKeys: []string{name}}} {
			cfg.Client = http.DefaultClient
			if _, err := gcpkms.New(cfg); err == nil {
				t.Errorf("New takes the key %q", name)
			}
		}
	}
	for endpoint, ok := range map[string]bool{
		"": true, "https://cloudkms.europe-west3.rep.googleapis.com": true, "http://127.0.0.1:1": true,
		"cloudkms.googleapis.com": false, "http://cloudkms.googleapis.com": false, "https://user:s3cret@host": false,
	} {
		_, err := gcpkms.New(gcpkms.Config{Client: http.DefaultClient, Key: keyName, Endpoint: endpoint})
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("Endpoint %q: %v", endpoint, err)
		}
	}
	if _, err := gcpkms.New(gcpkms.Config{Key: keyName}); err == nil {
		t.Error("New takes no client")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Whoever can write to the store chooses what is unwrapped.
func FuzzUnwrapKey(f *testing.F) {
	f.Add(wrappedKey.KeyID, wrappedKey.Data)
	f.Add(keyName+"/cryptoKeyVersions/", []byte("x"))
	f.Add(keyName+"/cryptoKeyVersions/1:encrypt", []byte("x"))
	f.Add("", []byte(nil))
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w := mustNew(t, gcpkms.Config{Key: keyName, Client: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.String() != "https://cloudkms.googleapis.com/v1/"+keyName+":decrypt" || !strings.HasPrefix(id, keyName+"/cryptoKeyVersions/") {
				t.Errorf("KeyID %q sends a request to %s", id, r.URL)
			}
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"plaintext":"YQ==","plaintextCrc32c":"3251651376"}`))}, nil
		})}})
		key, err := w.UnwrapKey(ctx, tokencache.WrappedKey{KeyID: id, Data: data})
		if (err == nil) != (string(key) == "a") || err != nil && !errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("%q, %v", key, err)
		}
	})
}
