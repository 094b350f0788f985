package transport_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A 401 that arrives late, about a token that has been replaced meanwhile, is
// answered with the newer one, without network (C15).
func TestALateRefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		old, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		newer, err := s.Reject(t.Context(), old)
		if err != nil || newer.AccessToken == old.AccessToken {
			t.Fatalf("the token was not replaced: %v", err)
		}
		for range 10 {
			time.Sleep(time.Minute)
			if tok, err := s.Reject(t.Context(), old); err != nil || tok.AccessToken != newer.AccessToken {
				t.Fatalf("not the newer token: %v", err)
			}
		}
		w.wantCounts(1, 0)
		// When the newer one has expired, it is not the answer any more.
		time.Sleep(2 * time.Hour)
		if tok, err := s.Reject(t.Context(), old); err != nil || tok.AccessToken == newer.AccessToken {
			t.Errorf("an expired token: %v", err)
		}
		w.wantCounts(2, 0)
	})
}

// A token that is refused when it is only seconds old is not replaced, and the
// error says when that would be.
func TestAYoungTokenIsNotReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		tok, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Reject(t.Context(), tok)
		e, ok := errors.AsType[*transport.Error](err)
		if !ok || e.Kind != transport.ErrUnavailable || e.RetryAt.Sub(transport.WallNow()) > transport.MinRejectedAge || e.RetryAt.Before(transport.WallNow()) {
			t.Fatalf("got %v", err)
		}
		if now, err := s.Token(t.Context()); err != nil || now.AccessToken != tok.AccessToken {
			t.Errorf("the token is not used any more: %v", err)
		}
		w.wantCounts(0, 0)
		time.Sleep(time.Until(e.RetryAt))
		if _, err := s.Reject(t.Context(), tok); err != nil {
			t.Error(err)
		}
		w.wantCounts(1, 0)
	})
}

// If one API rejects a token, nobody loses it while there is no other: it is good elsewhere,
// and this API rejects it again.
func TestARefusedTokenServesUntilThereIsAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		tok, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		w.srv.Fault("/token", 0, oauthtest.Status(429, 0))
		if _, err := s.Reject(t.Context(), tok); !errors.Is(err, transport.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
		for range 60 {
			if now, err := s.Token(t.Context()); err != nil || now.AccessToken != tok.AccessToken {
				t.Fatalf("got %v", err)
			}
			synctest.Wait()
			if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateOutage || st.RetryAt.IsZero() || st.Err == nil {
				t.Fatalf("status %+v, %v", st, err)
			}
			time.Sleep(time.Second)
		}
		w.srv.Heal()
		time.Sleep(10 * time.Minute)
		s.Token(t.Context())
		synctest.Wait()
		if now, err := s.Token(t.Context()); err != nil || now.AccessToken == tok.AccessToken {
			t.Errorf("the refused token, or %v", err)
		}
		if r := w.stored(s); r.ForcedAt.IsZero() {
			t.Error("the record does not say that the token was replaced because it was refused")
		}
	})
}

// A refusal that comes while a look into the cache is under way, which finds the
// refused token good, has it replaced all the same; one that comes while a refresh
// is under way joins it.
func TestARefusalDuringAFlight(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sleep time.Duration // from the login to the flight
	}{{"a refresh in the background", 58 * time.Minute}, {"a refresh that is waited for", 2 * time.Hour}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 10 * time.Second})
				s := w.source()
				w.login(s, "ann")
				old, err := s.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(tt.sleep)
				var wg sync.WaitGroup
				wg.Go(func() { s.Token(t.Context()) })
				time.Sleep(time.Second)
				for range 5 {
					wg.Go(func() {
						if tok, err := s.Reject(t.Context(), old); err != nil || tok.AccessToken == old.AccessToken {
							t.Errorf("the refused token, or %v", err)
						}
					})
				}
				wg.Wait()
				synctest.Wait()
				w.wantCounts(1, 0)
			})
		})
	}
	t.Run("a look into the cache", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
			w.login(w.source(), "ann")
			old := w.stored(w.source()).AccessToken
			store := &slow{&troubled{Memory: w.store.(*tokencache.Memory)}, time.Second}
			w.store = store
			s := w.source()
			time.Sleep(time.Minute)
			var wg sync.WaitGroup
			wg.Go(func() { s.Token(t.Context()) })
			synctest.Wait()
			if tok, err := s.Reject(t.Context(), transport.Token{AccessToken: old}); err != nil || tok.AccessToken == old {
				t.Errorf("the refused token, or %v", err)
			}
			wg.Wait()
			w.wantCounts(1, 0)
		})
	})
}

// The token of a provider that keeps answering with the same one is not asked for
// again and again.
func TestAProviderThatRepeatsTheRefusedToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.NoRotation})
		s := w.source()
		tokens := w.login(s, "ann")
		time.Sleep(time.Minute)
		w.srv.Fault("/token", 0, oauthtest.Edit(func(a map[string]any) { a["access_token"] = tokens.AccessToken }))
		w.srv.Fault("/api", 0, oauthtest.Challenge(401, `Bearer error="invalid_token"`))
		c := w.client(s)
		for range 120 {
			if status, _ := get(t, c, w.srv.APIURL()); status != 401 {
				t.Fatalf("status %d", status)
			}
			time.Sleep(time.Second)
		}
		if n := w.srv.Counts().TokenRequests; n > 8 {
			t.Errorf("%d token requests in two minutes", n)
		}
	})
}
