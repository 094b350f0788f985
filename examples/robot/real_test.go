package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// newKey returns what is in a key file, and what a provider is told of it: a JSON Web Key.
func newKey(t *testing.T, id string) (file []byte, public map[string]any) {
	t.Helper()
	key, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	d, err2 := key.Bytes()
	point, err3 := key.PublicKey.Bytes()
	b64 := base64.RawURLEncoding.EncodeToString
	public = map[string]any{"use": "sig", "alg": "ES256", "kid": id, "kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	private := maps.Clone(public)
	private["d"] = b64(d)
	file, err4 := json.Marshal(private)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return file, public
}

// A screen is what somebody sees who runs the program.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// rotate runs the program until Ctrl-C, and replaces its key file meanwhile.
func rotate(t *testing.T, old, newer []byte, users []string, args ...string) (printed string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.json")
	if err := replace(path, old); err != nil {
		t.Fatal(err)
	}
	ctx, ctrlC := context.WithCancel(t.Context())
	out, done := new(screen), make(chan error, 1)
	go func() { done <- run(ctx, append(args, "-key-file", path, "-dir", t.TempDir()), out) }()
	defer func() {
		ctrlC()
		if err := <-done; err != nil || !strings.Contains(out.String(), " 0 failed; ") {
			t.Error(err)
		}
		printed = out.String()
		t.Log(printed)
	}()
	wantTokens := func(n int) {
		for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			missing := false
			for _, user := range append([]string{"itself"}, users...) {
				missing = missing || strings.Count(out.String(), "a token for "+user) < n
			}
			if !missing {
				return
			}
			if len(done) > 0 || time.Since(begun) > 2*time.Minute {
				t.Fatalf("there are not %d tokens for each", n)
			}
		}
	}
	wantTokens(1)
	if err := replace(path, newer); err != nil {
		t.Fatal(err)
	}
	wantTokens(2)
	return // what is printed by then
}

// The key is replaced while the program signs for users, and nothing that it prints is secret.
func TestUsers(t *testing.T) {
	t.Parallel()
	old, _ := newKey(t, "")
	newer, _ := newKey(t, "")
	srv := oauthtest.New(oauthtest.Config{AuthStyle: oauthtest.AuthPrivateKey, ClientKeys: []crypto.PublicKey{public(t, old), public(t, newer)}})
	srv.Fault("/token", 0, oauthtest.Edit(func(answer map[string]any) { answer["refresh_in"] = 1 }))
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	printed := rotate(t, old, newer, []string{"ann", "bob"}, "-issuer", srv.URL(), "-client-id", srv.ClientID(), "-api", srv.APIURL(), "-as", "ann,bob")
	for _, secret := range srv.Secrets() {
		if strings.Contains(printed, secret) {
			t.Error("the output holds a secret")
		}
	}
}

func public(t *testing.T, file []byte) crypto.PublicKey {
	t.Helper()
	key, err := clientauth.ParseKey(file)
	if err != nil {
		t.Fatal(err)
	}
	return key.Signer.Public()
}

// The key is replaced while the program uses a certified provider.
func TestCertifiedProvider(t *testing.T) {
	t.Parallel()
	old, oldPublic := newKey(t, "old")
	newer, newPublic := newKey(t, "new")
	clients, err := json.Marshal([]any{map[string]any{"client_id": "robot", "token_endpoint_auth_method": "private_key_jwt",
		"token_endpoint_auth_signing_alg": "ES256", "jwks": map[string]any{"keys": []any{oldPublic, newPublic}}}})
	if err != nil {
		t.Fatal(err)
	}
	as := realparts.OIDCProvider(t, "--clients="+string(clients), "--access-token-ttl=10")
	rotate(t, old, newer, nil, "-issuer", as.Issuer, "-client-id", "robot", "-scope", "api", "-api", as.API)
	if c := as.Counts(); c.APIRefused > 0 || len(c.Errors) > 0 {
		t.Errorf("the provider counted %+v", c)
	}
}

// The same with Keycloak, where the robot also exchanges the tokens of users.
func TestKeycloak(t *testing.T) {
	t.Parallel()
	old, oldPublic := newKey(t, "old")
	newer, newPublic := newKey(t, "new")
	realm := realparts.StartKeycloak(t).NewRealm(t, "robots", map[string]any{"accessTokenLifespan": 20})
	realm.AddKeyClient("robot", "ES256", oldPublic, newPublic)
	tokens, users := t.TempDir(), []string{"ann", "bob"}
	key, err := clientauth.ParseKey(newer)
	if err != nil {
		t.Fatal(err)
	}
	bring := func() {
		for _, user := range users {
			if err := replace(filepath.Join(tokens, user), passwordLogin(t, realm, user, key)); err != nil {
				t.Error(err)
			}
		}
	}
	for _, user := range users {
		realm.AddUser(user)
	}
	bring()
	ctx, stop := context.WithCancel(t.Context())
	var browsers sync.WaitGroup
	browsers.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, 3*time.Second) {
			bring()
		}
	})
	defer browsers.Wait()
	defer stop()
	rotate(t, old, newer, users, "-issuer", realm.Issuer, "-client-id", "robot", "-scope", "openid", "-api", realm.API,
		"-as", strings.Join(users, ","), "-subject-tokens", tokens)
}

// passwordLogin returns a token that a user brings to the robot.
func passwordLogin(t *testing.T, realm *realparts.Realm, user string, key *clientauth.Key) []byte {
	r := &endpoint.AuthRequest{ClientID: "robot", Issuer: realm.Issuer, Now: time.Now(), Form: url.Values{
		"grant_type": {"password"}, "client_id": {"robot"}, "username": {user}, "password": {user}, "scope": {"openid"}}}
	auth := &clientauth.PrivateKey{Key: func(context.Context) (*clientauth.Key, error) { return key, nil }}
	if err := auth.Authenticate(t.Context(), r); err != nil {
		t.Error(err)
	}
	resp, err := http.PostForm(realm.Issuer+"/protocol/openid-connect/token", r.Form)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer resp.Body.Close()
	var login realparts.Login
	if err := json.NewDecoder(resp.Body).Decode(&login); err != nil || login.AccessToken == "" {
		t.Errorf("%s: %v", resp.Status, err)
	}
	return []byte(login.AccessToken)
}
