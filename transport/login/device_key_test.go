package login

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A client with a key proves who it is anew with each poll, whatever became of the last. Neither a
// provider that reads a proof after it has expired, nor a key service that is away, ends the login
// (C79, C83).
func TestDeviceWithAKey(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	inBubble(t, oauthtest.Config{AuthStyle: oauthtest.AuthPrivateKey, ClientKeys: []crypto.PublicKey{key.Public()}}, func(t *testing.T, w *deviceWorld) {
		asked := 0
		w.cfg.Endpoint.ClientAuth = &clientauth.PrivateKey{Key: func(context.Context) (*clientauth.Key, error) {
			if asked++; asked == 3 { // for the second poll
				return nil, errors.New("away")
			}
			return &clientauth.Key{Signer: key}, nil
		}}
		base, seen, requests := w.cfg.Endpoint.Base, map[string]bool{}, 0
		w.cfg.Endpoint.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				requests++
				seen[jtiOf(t, r)] = true
			}
			return base.RoundTrip(r)
		})
		for _, fault := range []oauthtest.Fault{oauthtest.Status(503, 0), oauthtest.Drop, oauthtest.Slow(90 * time.Second), oauthtest.HTML} {
			w.srv.Fault("/token", 1, fault)
		}
		w.after(5*time.Minute, func(p Prompt) { w.srv.ApproveDevice(p.UserCode, "alice") })
		rec, err := Device(t.Context(), w.cfg)
		w.wantLogin(rec, err)
		if n := w.srv.Counts(); requests < 7 || asked != requests+1 || len(seen) != requests || n.RepeatedAssertions != 0 {
			t.Errorf("%d requests, %d statements, %d times asked for the key: %+v", requests, len(seen), asked, n)
		}
	})
}

// jtiOf returns the name of the statement that a request has.
func jtiOf(t *testing.T, r *http.Request) string {
	t.Helper()
	body, err := r.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(body)
	form, _ := url.ParseQuery(string(text))
	var claims struct{ JTI string }
	parts := strings.Split(form.Get("client_assertion"), ".")
	if raw, err := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)]); err != nil || json.Unmarshal(raw, &claims) != nil || claims.JTI == "" {
		t.Errorf("a request without a statement: %v", err)
	}
	return claims.JTI
}
