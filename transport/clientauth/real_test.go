package clientauth_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// TestReal is the whole life of logins at a certified provider, which refuses every statement
// that it has seen before: with each algorithm, logins by a code, by a pushed request and by a
// device, refreshes, revocation, and a token for the program itself.
func TestReal(t *testing.T) {
	keys := map[string]*clientauth.PrivateKey{}
	var clients []map[string]any
	for _, alg := range []string{"ES256", "PS256", "RS256", "EdDSA"} {
		key := testkit.NewKey(t, alg)
		clients = append(clients, map[string]any{
			"client_id": alg, "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": alg,
			"jwks": map[string]any{"keys": []any{testkit.JWK(key, alg, "key of "+alg)}},
		})
		keys[alg] = &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: key, Algorithm: alg, ID: "key of " + alg})}
	}
	flag, err := json.Marshal(clients)
	must(t, err)
	as := realparts.OIDCProvider(t, "--clients="+string(flag), "--access-token-ttl=2")
	p, err := provider.Discover(t.Context(), as.Issuer)
	must(t, err)
	t.Run("algorithms", func(t *testing.T) {
		for alg, auth := range keys {
			t.Run(alg, func(t *testing.T) {
				t.Parallel()
				e := p.Endpoint(alg, "", "openid", "offline_access")
				e.ClientAuth = auth
				s := source(t, e)
				cfg := login.Config{Provider: p, Endpoint: e, Out: io.Discard, Open: follow,
					OnPrompt: func(prompt login.Prompt) {
						if prompt.UserCode != "" {
							go as.ApproveDevice(prompt.UserCode, "ann")
						}
					}}
				pushed := cfg
				pushed.PAR = true
				for name, log := range map[string]func() (*tokencache.Record, error){
					"code":           func() (*tokencache.Record, error) { return login.Loopback(t.Context(), cfg) },
					"pushed request": func() (*tokencache.Record, error) { return login.Loopback(t.Context(), pushed) },
					"device":         func() (*tokencache.Record, error) { return login.Device(t.Context(), cfg) },
				} {
					rec, err := log()
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					must(t, s.Login(t.Context(), rec))
					for range 2 {
						time.Sleep(2100 * time.Millisecond) // until the token has expired
						if _, err := s.Token(t.Context()); err != nil {
							t.Errorf("%s: a refresh: %v", name, err)
						}
					}
					if err := s.Logout(t.Context()); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				program := p.Endpoint(alg, "", "api")
				program.ClientAuth = auth
				if rec, err := program.ClientCredentials().Refresh(t.Context(), new(tokencache.Record)); err != nil || rec.AccessToken == "" {
					t.Errorf("client credentials: %v", err)
				}
			})
		}
	})
	c := as.Counts()
	for why := range c.Errors {
		if !strings.HasPrefix(why, "authorization_pending: ") {
			t.Errorf("the provider refused something: %s", why)
		}
	}
	if logins := 4 * 3; c.Reuses != 0 || c.Revoked != logins || c.OK["refresh_token"] < 2*logins {
		t.Errorf("the provider counted %+v", c)
	}

	// A statement that comes twice is refused, though nobody can know from the answer why.
	twice := p.Endpoint("ES256", "", "api")
	twice.ClientAuth, twice.Base = keys["ES256"], testkit.Twice(http.DefaultTransport)
	_, err = twice.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
	if told := wantError(t, err, transport.ErrMisconfigured); told.Code != "invalid_client" || told.Status != http.StatusUnauthorized {
		t.Errorf("got %v", err)
	}

	// A key that it does not know is the client's trouble, not the login's.
	e := p.Endpoint("ES256", "", "openid")
	e.ClientAuth = &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: testkit.NewKey(t, "ES256")})}
	_, err = e.Refresh(t.Context(), &tokencache.Record{RefreshToken: "old", TokenURL: e.TokenURL})
	if told := wantError(t, err, transport.ErrMisconfigured); told.Code != "invalid_client" {
		t.Errorf("got %v", err)
	}
}

// follow does what a browser does at a provider that asks its user nothing.
func follow(ctx context.Context, u string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	go func() {
		if resp, err := (&http.Client{Jar: jar}).Get(u); err == nil {
			resp.Body.Close()
		}
	}()
	return nil
}
