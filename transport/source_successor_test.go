package transport_test

import (
	"encoding/base64"
	"reflect"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// What an answer replaces, and what it leaves as it was (C01, C02, C05).
func TestSuccessor(t *testing.T) {
	then, now := transport.WallNow().Add(-time.Hour), transport.WallNow()
	current := func() *tokencache.Record {
		return &tokencache.Record{
			TokenURL: "https://a.test/token", AccessToken: "access1", TokenType: "Bearer", RefreshToken: "refresh1", IDToken: "id1", Scope: "a b",
			AuthorizedAt: then, ObtainedAt: then, Expiry: then.Add(time.Hour), RefreshAt: then.Add(time.Minute), RefreshExpiry: then.Add(day),
			LoginID: "grant", Generation: 7, Attempt: &tokencache.Attempt{At: then}, ForcedAt: then,
			Extra: map[string]tokencache.Secret{"kept": "1", "changed": "1"},
		}
	}
	full := tokencache.Record{
		TokenURL: "https://b.test/token", AccessToken: "access2", TokenType: "bearer", RefreshToken: "refresh2", IDToken: "id2", Scope: "a",
		ObtainedAt: now, Expiry: now.Add(time.Hour), RefreshAt: now.Add(time.Minute), RefreshExpiry: now.Add(day),
		Extra: map[string]tokencache.Secret{"changed": "2", "new": "2"},
	}
	for _, tt := range []struct {
		name    string
		answer  func(*tokencache.Record)
		refused tokencache.Secret
		want    func(*tokencache.Record) // of what the full answer makes
	}{
		{"everything is new", func(*tokencache.Record) {}, "", func(*tokencache.Record) {}},
		{"no refresh token", func(a *tokencache.Record) { a.RefreshToken = "" }, "", func(w *tokencache.Record) { w.RefreshToken = "refresh1" }},
		{"no refresh token and no word of its end", func(a *tokencache.Record) { a.RefreshToken, a.RefreshExpiry = "", time.Time{} }, "",
			func(w *tokencache.Record) { w.RefreshToken, w.RefreshExpiry = "refresh1", then.Add(day) }},
		{"the same refresh token and no word of its end", func(a *tokencache.Record) { a.RefreshToken, a.RefreshExpiry = "refresh1", time.Time{} }, "",
			func(w *tokencache.Record) { w.RefreshToken, w.RefreshExpiry = "refresh1", then.Add(day) }},
		{"a new refresh token and no word of its end", func(a *tokencache.Record) { a.RefreshExpiry = time.Time{} }, "",
			func(w *tokencache.Record) { w.RefreshExpiry = time.Time{} }},
		{"no scope", func(a *tokencache.Record) { a.Scope = "" }, "", func(w *tokencache.Record) { w.Scope = "a b" }},
		{"no ID token", func(a *tokencache.Record) { a.IDToken = "" }, "", func(w *tokencache.Record) { w.IDToken = "id1" }},
		{"no token URL", func(a *tokencache.Record) { a.TokenURL = "" }, "", func(w *tokencache.Record) { w.TokenURL = "https://a.test/token" }},
		{"no times", func(a *tokencache.Record) { a.Expiry, a.RefreshAt = time.Time{}, time.Time{} }, "",
			func(w *tokencache.Record) { w.Expiry, w.RefreshAt = time.Time{}, time.Time{} }},
		{"no access token", func(a *tokencache.Record) {
			a.AccessToken, a.ObtainedAt, a.Expiry, a.RefreshAt = "", now, time.Time{}, time.Time{}
		}, "access1",
			func(w *tokencache.Record) {
				w.AccessToken, w.TokenType, w.ObtainedAt, w.Expiry, w.RefreshAt = "access1", "Bearer", then, then.Add(time.Hour), then.Add(time.Minute)
			}},
		{"because an API has rejected the old one", func(*tokencache.Record) {}, "access1", func(w *tokencache.Record) { w.ForcedAt = time.Time{} }},
		{"because an API has rejected an older one", func(*tokencache.Record) {}, "access0", func(*tokencache.Record) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer := full.Clone()
			tt.answer(answer)
			want := full.Clone()
			want.AuthorizedAt, want.LoginID, want.Generation, want.ForcedAt = then, "grant", 8, then
			want.Extra = map[string]tokencache.Secret{"kept": "1", "changed": "2", "new": "2"}
			tt.want(want)
			cur := current()
			got := transport.Successor(cur, answer, tt.refused)
			if want.ForcedAt.IsZero() && !got.ForcedAt.Before(now) {
				got.ForcedAt = time.Time{} // just now
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v (or a secret differs)", got, want)
			}
			if !reflect.DeepEqual(cur, current()) {
				t.Error("the old record was modified")
			}
		})
	}
	first := transport.Successor(nil, &full, "")
	if first.LoginID == "" || first.Generation != 1 || first.AuthorizedAt.Before(now) || first.AccessToken != "access2" || !first.ForcedAt.IsZero() {
		t.Errorf("without a record before: %+v", first)
	}
}

// Each refresh sends the refresh token that the one before brought, or if it
// brought none the one that it sent (C01, C02).
func TestEachRefreshSendsTheNewestRefreshToken(t *testing.T) {
	for name, policy := range map[string]oauthtest.Policy{"rotation": oauthtest.StrictFamily, "no rotation": oauthtest.NoRotation} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: policy})
				s := w.source()
				first := w.login(s, "ann").RefreshToken
				for range 5 {
					time.Sleep(2 * time.Hour)
					if _, err := s.Token(t.Context()); err != nil {
						t.Fatal(err)
					}
					stored := string(w.stored(s).RefreshToken)
					if stored == "" || stored != w.srv.Current("ann").RefreshToken || (stored == first) != (policy == oauthtest.NoRotation) {
						t.Fatal("the stored refresh token is not the one to be sent next")
					}
				}
				w.wantCounts(5, 0)
			})
		})
	}
}

// An answer with an access token of a type that cannot be used, and a new refresh
// token: the latter is kept (C01, C04).
func TestAnAnswerWithoutUsableAccessTokenRotatesAllTheSame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		// C40: the access token is not used, and the refresh token beside it kept.
		w.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) { a["token_type"] = "mac" }))
		if _, err := s.Token(t.Context()); err == nil {
			t.Fatal("a token of type mac was handed out")
		} else if e := transport.AsError(err); e.Kind != transport.ErrMisconfigured || e.RetryAt.IsZero() {
			t.Errorf("got %v", err)
		}
		if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken || r.Generation != 2 || r.Attempt != nil {
			t.Errorf("the rotation was not kept: %v", r)
		}
		time.Sleep(10 * time.Minute)
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantCounts(2, 0)
	})
}

// The access token is the API's business: one that looks like a JWT which has
// expired, or is not valid yet, is used as any other (C34).
func TestAccessTokensAreOpaque(t *testing.T) {
	jwt := func(claims string) string {
		e := base64.RawURLEncoding.EncodeToString
		return e([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + e([]byte(claims)) + ".c2ln"
	}
	for _, token := range []string{"opaque", jwt(`{"exp":1}`), jwt(`{"nbf":99999999999}`), jwt(`{"exp":99999999999}`), "a.b.c", "a b"} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
			s := w.source()
			w.login(s, "ann")
			w.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) { a["access_token"] = token }))
			time.Sleep(2 * time.Hour)
			for range 54 {
				tok, err := s.Token(t.Context())
				if err != nil || string(tok.AccessToken) != token {
					t.Fatalf("%d bytes, %v", len(tok.AccessToken), err)
				}
				time.Sleep(time.Minute)
			}
			if tok, err := s.Token(t.Context()); err != nil || !tok.Expiry.Equal(w.stored(s).Expiry) {
				t.Errorf("expiry %v, %v", tok.Expiry, err)
			}
			w.wantCounts(1, 0)
		})
	}
}

// A scope that the provider has narrowed is told to the program (C05).
func TestANarrowedScope(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Scope: "read write"})
		s := w.source()
		r := record(w.srv.Login("ann"))
		r.Scope = "read write"
		if err := s.Login(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		for _, scope := range []string{"read write", "read", "read"} {
			w.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) {
				if a["scope"] = scope; w.srv.Counts().TokenRequests == 3 {
					delete(a, "scope") // as before
				}
			}))
			time.Sleep(2 * time.Hour)
			if tok, err := s.Token(t.Context()); err != nil || tok.Scope != scope {
				t.Errorf("scope %q, %v; want %q", tok.Scope, err, scope)
			}
			if st, err := s.Status(t.Context()); err != nil || st.Scope != scope {
				t.Errorf("status: scope %q, %v", st.Scope, err)
			}
		}
	})
}
