package transport

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func idToken(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

// C54: an ID token of somebody else is not taken over, and the refresh token beside
// it is kept all the same.
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
				if _, err := s.Token(t.Context()); err != nil {
					t.Fatal(err)
				}
				got := w.stored(s)
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

func FuzzIdentity(f *testing.F) {
	f.Add(`{"iss":"i","sub":"s","aud":["a","b"]}`)
	f.Add(`{"aud":{"a":1}}`)
	f.Add(`{"aud":null}`)
	f.Fuzz(func(t *testing.T, claims string) {
		token := tokencache.Secret(idToken(claims))
		if !sameIdentity(token, token) {
			t.Errorf("%q is not the same as itself", claims)
		}
	})
}
