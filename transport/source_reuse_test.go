package transport_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Whether somebody else may have used the refresh token is told to programs, to
// people, and to processes that start later.
func TestReuseSuspected(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(*testing.T, *world, *transport.Source)
		remedy string // "": no suspicion
	}{
		{"revoked", func(t *testing.T, w *world, s *transport.Source) {
			w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		}, ""},
		{"interrupted", func(t *testing.T, w *world, s *transport.Source) {
			w.srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Status(503, time.Second)))
			use(t, s, transport.ErrAmbiguous)
			w.wantEvents(transport.EventRefreshFailed, transport.EventOutage)
			time.Sleep(time.Minute)
		}, "interrupted"},
		{"used elsewhere", func(t *testing.T, w *world, s *transport.Source) {
			if _, err := w.endpoint().Refresh(t.Context(), w.stored(s)); err != nil {
				t.Fatal(err)
			}
		}, "used before: something that does not share this cache"},
		{"the store was set back", func(t *testing.T, w *world, s *transport.Source) {
			// A failover to a replica that lagged. This process has not seen what was lost.
			cache, old := w.cache(), w.stored(s)
			use(t, w.source(), nil)
			w.wantEvents(transport.EventRefreshed)
			_, v, err := cache.Load(t.Context(), s.Key())
			if err == nil {
				_, err = cache.Save(t.Context(), s.Key(), old, v)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "the store has lost the newer one, as in a failover"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				w.wantEvents(transport.EventLogin)
				time.Sleep(2 * time.Hour)
				tt.before(t, w, s)
				use(t, s, transport.ErrLoginRequired)
				told := w.wantEvents(transport.EventLoginRequired)[0].Err
				st, err := w.source().Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, err := range []error{told, st.Err} {
					e := transport.AsError(err)
					if e.Kind != transport.ErrLoginRequired || e.ReuseSuspected != (tt.remedy != "") || !strings.Contains(e.Remedy, tt.remedy) || !strings.Contains(e.Remedy, "log in again") {
						t.Errorf("suspected: %t, %v", e.ReuseSuspected, e)
					}
				}
			})
		})
	}
}

func TestSaysReuse(t *testing.T) {
	for _, tt := range []struct {
		code, description string
		want              bool
	}{
		{"invalid_grant", "Maximum allowed refresh token reuse exceeded", true}, // Keycloak
		{"invalid_grant", "Refresh token already exchanged.", true},             // WorkOS
		{"refresh_token_already_used", "Invalid Refresh Token: Already Used", true},
		{"refresh_token_reused", "", true},
		{"invalid_grant", "Token reuse detected", true},
		{"invalid_grant", "Stale token", false},                              // Keycloak, for a reuse and for tokens of before a not-before time
		{"invalid_grant", "Token is not active", false},                      // Keycloak
		{"invalid_grant", "Unknown or invalid refresh token.", false},        // Auth0
		{"invalid_grant", "Token has been expired or revoked.", false},       // Google
		{"invalid_grant", "The refresh token is invalid or expired.", false}, // Okta
		{"bad_refresh_token", "", false},
	} {
		if got := transport.SaysReuse(tt.code, tt.description); got != tt.want {
			t.Errorf("%s, %q: %t", tt.code, tt.description, got)
		}
	}
}
