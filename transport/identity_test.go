package transport_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func idToken(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

// C54: an ID token that differs is not taken over, and the refresh token beside it is
// kept all the same. If it is another person's, then so is the access token, and that is
// not used.
func TestIdentityStaysTheSame(t *testing.T) {
	const alice = `{"iss":"https://as.test","sub":"alice","aud":"client"}`
	tests := []struct {
		name, old, next string
		taken           bool
	}{
		{"same, and newer", idToken(alice), idToken(`{"iss":"https://as.test","sub":"alice","aud":"client","iat":2}`), true},
		{"one audience in an array", idToken(alice), idToken(`{"iss":"https://as.test","sub":"alice","aud":["client"]}`), true},
		{"audiences in another order", idToken(`{"iss":"i","sub":"s","aud":["a","b"]}`), idToken(`{"iss":"i","sub":"s","aud":["b","a"]}`), true},
		{"none before", "", idToken(alice), true},
		{"encrypted", "a.b.c.d.e", "f.g.h.i.j", true},
		{"other subject", idToken(alice), idToken(`{"iss":"https://as.test","sub":"mallory","aud":"client"}`), false},
		{"other issuer", idToken(alice), idToken(`{"iss":"https://as.test/","sub":"alice","aud":"client"}`), false},
		{"other audience", idToken(alice), idToken(`{"iss":"https://as.test","sub":"alice","aud":"other"}`), false},
		{"more audiences", idToken(alice), idToken(`{"iss":"https://as.test","sub":"alice","aud":["client","other"]}`), false},
		{"other subject, other issuer", idToken(alice), idToken(`{"iss":"https://as.test/","sub":"mallory","aud":"client"}`), false},
		{"no subject", idToken(alice), idToken(`{"iss":"https://as.test","aud":"client"}`), false},
		{"unreadable", idToken(alice), "e30.%%%.c2ln", false},
		{"not a token", idToken(alice), "alice", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				w.srv.Fault("/token", 1, oauthtest.Edit(func(answer map[string]any) { answer["id_token"] = tt.next }))
				s := w.source()
				first := w.srv.Login("alice")
				rec := record(first)
				rec.IDToken = tokencache.Secret(tt.old)
				if err := s.Login(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				_, err := s.Token(t.Context())
				if somebodyElse := strings.HasPrefix(tt.name, "other subject"); somebodyElse != errors.Is(err, transport.ErrMisconfigured) || !somebodyElse && err != nil {
					t.Fatal(err)
				}
				got := w.stored(s)
				if (string(got.AccessToken) == first.AccessToken) != (err != nil) {
					t.Errorf("the old access token is stored: %v; the error: %v", string(got.AccessToken) == first.AccessToken, err)
				}
				if string(got.RefreshToken) == first.RefreshToken || !w.srv.Valid(string(got.RefreshToken)) {
					t.Error("the new refresh token was not stored")
				}
				want := tt.old
				if tt.taken {
					want = tt.next
				}
				if string(got.IDToken) != want {
					t.Errorf("the new ID token was taken: %v, want %v", !tt.taken, tt.taken)
				}
			})
		})
	}
}

// Without a new refresh token there is nothing to keep of such an answer, and the journal
// of the refresh is cleared: the old one is good.
func TestTokensOfSomebodyElseWithoutARotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.KeepOld})
		s := w.source()
		rec := record(w.srv.Login("alice"))
		rec.IDToken = tokencache.Secret(idToken(`{"sub":"alice"}`))
		if err := s.Login(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		w.srv.Fault("/token", 1, oauthtest.Edit(func(answer map[string]any) {
			delete(answer, "refresh_token")
			answer["id_token"] = idToken(`{"sub":"mallory"}`)
		}))
		time.Sleep(2 * time.Hour)
		for range 100 {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrMisconfigured) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		w.wantCounts(1, 0)
		if got := w.stored(s); got.AccessToken != rec.AccessToken || got.RefreshToken != rec.RefreshToken || got.Attempt != nil {
			t.Errorf("stored: %v", got)
		}
		time.Sleep(5 * time.Minute)
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("when the provider is well again: %v", err)
		}
	})
}
