package grants_test

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// serviceAccount writes a key file as the console of Google Cloud makes it.
func serviceAccount(t *testing.T, path string, key crypto.Signer, change map[string]any) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	file := map[string]any{
		"type": "service_account", "project_id": "example", "private_key_id": "k1",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "robot@example.iam.gserviceaccount.com", "client_id": "1",
		"auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": "https://auth.test/token",
		"universe_domain": "googleapis.com",
	}
	for name, value := range change {
		file[name] = value
	}
	text, err := json.Marshal(file)
	must(t, err)
	must(t, os.WriteFile(path, text, 0o600))
}

// A service acts for the users of a domain, and for itself; a new key is in use without a
// restart.
func TestGoogleServiceAccount(t *testing.T) {
	old, newer := testkit.NewKey(t, "RS256"), testkit.NewKey(t, "RS256")
	path := filepath.Join(t.TempDir(), "key.json")
	serviceAccount(t, path, old, nil)
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Config{AuthStyle: oauthtest.AuthNone, ClientID: "robot@example.iam.gserviceaccount.com",
			ClientKeys: []crypto.PublicKey{old.Public(), newer.Public()}})
		defer srv.Close()
		var claims map[string]any
		base := srv.RoundTripper()
		r, err := grants.GoogleServiceAccount{File: path, Scopes: []string{"a", "b"}, Base: testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			form := formOf(t, req)
			if form.Has("scope") {
				t.Error("the scopes are sent beside the statement")
			}
			claims = claimsOf(t, form.Get("assertion"))
			return base.RoundTrip(req)
		})}.Refresher()
		must(t, err)
		w := &world{srv: srv}
		w.cache, err = tokencache.New(new(tokencache.Memory), nil)
		must(t, err)
		s := w.pool(t, r).Source("ann@example.com")
		for range 2 {
			tok, err := s.Token(t.Context())
			must(t, err)
			if srv.Current("ann@example.com").AccessToken != string(tok.AccessToken) || claims["scope"] != "a b" {
				t.Errorf("claims %v", claims)
			}
			serviceAccount(t, path, newer, map[string]any{"private_key_id": "k2"})
			time.Sleep(2 * time.Hour)
		}
		must(t, os.WriteFile(path, []byte(`{"type": "service_acc`), 0o600)) // it is being written
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("the key that was good is not used: %v", err)
		}
		if _, err := w.pool(t, r).Source("").Token(t.Context()); err == nil || claims["sub"] != nil {
			t.Errorf("the account's own token is asked for with a subject: %v, %v", claims, err)
		}
		serviceAccount(t, path, newer, map[string]any{"client_email": "other@example.iam.gserviceaccount.com"})
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "another account") {
			t.Errorf("got %v", err)
		}
	})
}

// Any other file is refused before a token is wanted, and nothing of it is shown.
func TestGoogleFilesThatAreWrong(t *testing.T) {
	key := testkit.NewKey(t, "RS256")
	for name, change := range map[string]map[string]any{
		"user":        {"type": "authorized_user"},
		"no mail":     {"client_email": ""},
		"no key":      {"private_key": "secret-key"},
		"plain http":  {"token_uri": "http://oauth2.googleapis.com/token"},
		"no endpoint": {"token_uri": ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.json")
			serviceAccount(t, path, key, change)
			_, err := grants.GoogleServiceAccount{File: path, Scopes: []string{"a"}}.Refresher()
			if !errors.Is(err, transport.ErrMisconfigured) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v", err)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if _, err := (grants.GoogleServiceAccount{File: path, Scopes: []string{"a"}}).Refresher(); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("no file: %v", err)
	}
	if _, err := (grants.GoogleServiceAccount{File: t.TempDir(), Scopes: []string{"a"}}).Refresher(); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a directory: %v", err)
	}
	serviceAccount(t, path, key, nil)
	if _, err := (grants.GoogleServiceAccount{File: path}).Refresher(); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("no scopes: %v", err)
	}
	for typ, use := range map[string]string{"authorized_user": "provider.ImportGoogleUser", "external_account": "WorkloadIdentity"} {
		serviceAccount(t, path, key, map[string]any{"type": typ})
		if _, err := (grants.GoogleServiceAccount{File: path, Scopes: []string{"a"}}).Refresher(); err == nil || !strings.Contains(err.Error(), use) {
			t.Errorf("%s: %v", typ, err)
		}
	}
}
