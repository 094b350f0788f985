package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// newKey returns a key, and what a provider is told of it.
func newKey(t *testing.T, id string) (*ecdsa.PrivateKey, map[string]any) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return key, map[string]any{"use": "sig", "alg": "ES256", "kid": id, "kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
}

// A screen is what a person sees who runs the program.
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

// rotate runs the program at a provider that knows two keys, and replaces the one by the other.
func rotate(t *testing.T, old, newer *ecdsa.PrivateKey, users []string, args ...string) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := writeKey(path, old); err != nil {
		t.Fatal(err)
	}
	ctx, ctrlC := context.WithCancel(t.Context())
	defer ctrlC()
	out, done := new(screen), make(chan error, 1)
	t.Cleanup(func() { t.Logf("%s", out) })
	go func() { done <- run(ctx, append(args, "-key-file", path, "-dir", t.TempDir()), out) }()
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
				t.Fatalf("there are no %d tokens for each", n)
			}
		}
	}
	wantTokens(1)
	if err := writeKey(path, newer); err != nil {
		t.Fatal(err)
	}
	wantTokens(3)
	ctrlC()
	if err := <-done; err != nil || !strings.Contains(out.String(), " 0 failed; ") {
		t.Error(err)
	}
}

// The key is replaced while the program uses a certified provider.
func TestCertifiedProvider(t *testing.T) {
	old, oldJWK := newKey(t, "old")
	newer, newJWK := newKey(t, "new")
	clients, err := json.Marshal([]any{map[string]any{"client_id": "robot", "token_endpoint_auth_method": "private_key_jwt",
		"token_endpoint_auth_signing_alg": "ES256", "jwks": map[string]any{"keys": []any{oldJWK, newJWK}}}})
	if err != nil {
		t.Fatal(err)
	}
	as := realparts.OIDCProvider(t, "--clients="+string(clients), "--access-token-ttl=10")
	rotate(t, old, newer, nil, "-issuer", as.Issuer, "-client-id", "robot", "-scope", "api", "-api", as.API)
	if c := as.Counts(); c.APIRefused > 0 || len(c.Errors) > 0 {
		t.Errorf("the provider counted %+v", c)
	}
}
