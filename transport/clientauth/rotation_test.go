package clientauth_test

import (
	"context"
	"crypto"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/statement"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// load has twenty goroutines call an API with the tokens of s, and returns what ends that. A call
// that fails fails the test.
func load(t *testing.T, s *transport.Source, base http.RoundTripper, url string, every time.Duration) (stop func()) {
	rt, err := transport.New(transport.Config{Source: s, Base: base, Origins: []string{strings.TrimSuffix(strings.TrimSuffix(url, "/me"), "/api")}})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(every) {
				resp, err := (&http.Client{Transport: rt}).Get(url)
				if err != nil {
					t.Errorf("a call: %v", err)
					continue
				}
				if resp.Body.Close(); resp.StatusCode != http.StatusOK {
					t.Errorf("a call: the API answered %s", resp.Status)
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// writeStatement writes what a platform says about a client, which is good for a minute.
func writeStatement(t *testing.T, path, issuer, id string, key crypto.Signer) {
	text, err := statement.Make("", &statement.Key{Signer: key}, statement.Statement{
		Issuer: id, Subject: id, Audience: issuer, Now: time.Now(), Lifetime: time.Minute})
	must(t, err)
	must(t, os.WriteFile(path+".new", []byte(text), 0o600))
	must(t, os.Rename(path+".new", path))
}

// The key of a client or of its platform is replaced under load: no call fails, half a file does
// no harm, a key that has a name brings it along, and the provider can forget the old key (C82,
// C84).
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	old, newer := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "RS256")
	for name, tt := range map[string]struct {
		login, named, platform bool
	}{
		"key of a program":          {},
		"key with a name":           {named: true},
		"key of a client of a user": {login: true},
		"token of the platform":     {platform: true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			synctest.Test(t, func(t *testing.T) {
				srv, e := server(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Minute}, old, newer)
				e.ClientAuth = keyFile(path)
				write := func(key crypto.Signer) { writeKey(t, path, key) }
				if tt.platform {
					e.ClientAuth = clientauth.TokenFile(path)
					write = func(key crypto.Signer) { writeStatement(t, path, srv.URL(), srv.ClientID(), key) }
				}
				known := map[crypto.Signer]crypto.PublicKey{old: old.Public(), newer: newer.Public()}
				if tt.named {
					kids := map[crypto.Signer]string{old: "2026", newer: "2027"}
					write = func(key crypto.Signer) { writeJWK(t, path, privateJWK(t, key, "", kids[key])) }
					for key, kid := range kids {
						known[key] = oauthtest.NamedKey{ID: kid, Key: key.Public()}
					}
				}
				srv.SetClientKeys(known[old], known[newer])
				s := sourceOf(t, e.ClientCredentials())
				if tt.login {
					s = sourceOf(t, e)
					must(t, s.Login(t.Context(), record(srv, "ann")))
				}
				write(old)
				stop := load(t, s, srv.RoundTripper(), srv.APIURL(), 5*time.Second)
				for i := range 240 {
					time.Sleep(5 * time.Second)
					switch {
					case i < 80:
						write(old)
					case i < 100 && !tt.platform: // A new key is written, slowly.
						must(t, os.WriteFile(path, []byte("-----BEGIN PRIVATE KEY-----\nMIG"), 0o600))
					default:
						write(newer)
					}
					if i == 160 {
						srv.SetClientKeys(known[newer])
					}
				}
				stop()
				must(t, s.Close(t.Context()))
				if n := srv.Counts(); n.TokenRequests < 15 || n.Assertions != n.TokenRequests || n.RepeatedAssertions+n.Reuses+n.APIRefused != 0 || n.APICalls < 20*100 {
					t.Errorf("the provider counted %+v", n)
				}
			})
		})
	}
}

func keyFile(path string) endpoint.ClientAuth {
	return &clientauth.PrivateKey{Key: clientauth.KeyFile(path, "")}
}

// sourceOf returns the tokens that r obtains.
func sourceOf(t *testing.T, r transport.Refresher) *transport.Source {
	t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	must(t, err)
	s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: r, Lead: 5 * time.Second})
	must(t, err)
	return s
}

// A certified provider goes from one key of a client to the next, and from one statement of its
// platform to the next, while the program calls its API, and no call fails.
func TestRealRotationUnderLoad(t *testing.T) {
	old, newer := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "ES256")
	keys := map[string]any{"keys": []any{testkit.JWK(old, "ES256", "old"), testkit.JWK(newer, "ES256", "new")}}
	var clients []map[string]any
	for _, id := range []string{"robot", "workload"} {
		clients = append(clients, map[string]any{"client_id": id, "token_endpoint_auth_method": "private_key_jwt",
			"token_endpoint_auth_signing_alg": "ES256", "jwks": keys})
	}
	flag, err := json.Marshal(clients)
	must(t, err)
	as := realparts.OIDCProvider(t, "--clients="+string(flag), "--access-token-ttl=10")
	p, err := provider.Discover(t.Context(), as.Issuer)
	must(t, err)
	for _, id := range []string{"robot", "workload"} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file")
			e := p.Endpoint(id, "", "api")
			e.ClientAuth = keyFile(path)
			write := func(key crypto.Signer) { writeKey(t, path, key) }
			if id == "workload" { // Its platform makes each statement for one request.
				e.ClientAuth = clientauth.TokenFile(path)
				write = func(key crypto.Signer) { writeStatement(t, path, as.Issuer, id, key) }
			}
			var key atomic.Pointer[crypto.Signer]
			key.Store(&old)
			write(old)
			e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				defer func() { write(*key.Load()) }()
				return http.DefaultTransport.RoundTrip(req)
			})
			s := sourceOf(t, e.ClientCredentials())
			stop := load(t, s, nil, as.API, 100*time.Millisecond)
			wantGeneration := func(n uint64) {
				for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
					st, err := s.Status(t.Context())
					if must(t, err); st.Generation >= n {
						return
					}
					if time.Since(begun) > time.Minute {
						t.Fatalf("after a minute: %+v, want generation %d", st, n)
					}
				}
			}
			wantGeneration(1)
			key.Store(&newer) // It is in the file after the next request.
			wantGeneration(3)
			stop()
			must(t, s.Close(t.Context()))
		})
	}
	t.Cleanup(func() { // after the parallel tests
		if c := as.Counts(); c.OK["client_credentials"] < 6 || len(c.Errors) > 0 || c.APIRefused > 0 {
			t.Errorf("the provider counted %+v", c)
		}
	})
}
