package transport_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func TestALoginIsRefreshedInTheBackground(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Hour, Latency: time.Second})
		s := w.source()
		first := w.login(s, "ann")
		c := w.client(s)

		get(t, c, w.srv.APIURL())
		w.wantCounts(0, 0)

		time.Sleep(58 * time.Minute) // stale: the call uses the old token, and starts a refresh
		begun := time.Now()
		tok, err := s.Token(t.Context())
		if err != nil || string(tok.AccessToken) != first.AccessToken || time.Since(begun) != 0 {
			t.Fatalf("a stale token was not returned at once: err %v after %v", err, time.Since(begun))
		}
		synctest.Wait()
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantCounts(1, 0)
		tok, err = s.Token(t.Context())
		if err != nil || string(tok.AccessToken) == first.AccessToken {
			t.Fatalf("the token was not renewed: %v", err)
		}
		if r := w.stored(s); r.Generation != 2 || string(r.RefreshToken) != w.srv.Current("ann").RefreshToken || r.Attempt != nil {
			t.Errorf("stored: generation %d, journal %v, or an old refresh token", r.Generation, r.Attempt)
		}
		time.Sleep(2 * time.Hour) // expired: the call waits
		if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
			t.Fatalf("status %d", status)
		}
		w.wantCounts(2, 0)
	})
}

func TestARestartNeedsNoLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		w.login(w.source(), "ann")
		if status, _ := get(t, w.client(w.source()), w.srv.APIURL()); status != 200 {
			t.Fatalf("status %d", status)
		}
		w.wantCounts(0, 0)
		time.Sleep(2 * time.Hour)
		if status, _ := get(t, w.client(w.source()), w.srv.APIURL()); status != 200 {
			t.Fatalf("status %d", status)
		}
		w.wantCounts(1, 0)
	})
}

func TestWithoutALoginNothingIsSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		for range 3 {
			_, err := w.client(s).Get(w.srv.APIURL())
			if !errors.Is(err, transport.ErrLoginRequired) {
				t.Fatalf("got %v, want ErrLoginRequired", err)
			}
		}
		if c := w.srv.Counts(); c.Connections != 0 {
			t.Errorf("%d connections", c.Connections)
		}
		// A login by another process is noticed at the next use.
		w.login(w.source(), "ann")
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The end of a login is a normal event, with an error of its own (C47).
func TestARefusedRefreshTokenIsNotPresentedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		a, b := w.source(), w.source()
		tokens := w.login(a, "ann")
		w.srv.RevokeFamily(tokens.RefreshToken)
		time.Sleep(2 * time.Hour)
		for _, s := range []*transport.Source{a, b, a, b} {
			_, err := s.Token(t.Context())
			if !errors.Is(err, transport.ErrLoginRequired) {
				t.Fatalf("got %v, want ErrLoginRequired", err)
			}
			if e, _ := errors.AsType[*transport.Error](err); e.Code != "invalid_grant" {
				t.Errorf("error %v", err)
			}
		}
		w.wantCounts(1, 0)
		if st, err := b.Status(t.Context()); err != nil || st.State != transport.StateDead || st.Err == nil {
			t.Errorf("status %+v, %v", st, err)
		}
		if r := w.stored(a); r.Tombstone == nil || r.Tombstone.Interrupted {
			t.Errorf("tombstone %+v", r.Tombstone)
		}
		w.login(b, "ann")
		if _, err := a.Token(t.Context()); err != nil {
			t.Errorf("after another process's login: %v", err)
		}
	})
}

// No expires_in means unknown, not infinite (C03).
func TestUnknownExpiryIsFreshUntilRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.Strict, NoExpiresIn: true, AccessTTL: time.Hour})
		s := w.source()
		r := record(w.srv.Login("ann"))
		r.Expiry = time.Time{}
		if err := s.Login(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		c := w.client(s)
		time.Sleep(59 * time.Minute)
		get(t, c, w.srv.APIURL())
		w.wantCounts(0, 0)
		time.Sleep(2 * time.Minute)
		if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
			t.Errorf("status %d", status)
		}
		w.wantCounts(1, 0)
	})
}

func TestTheClockIsSetBack(t *testing.T) {
	now := transport.WallNow()
	r := &tokencache.Record{AccessToken: "x", ObtainedAt: now.Add(10 * time.Hour), Expiry: now.Add(11 * time.Hour)}
	s := transport.NewSnapshot(r, 0, 0)
	if s.Fresh(now) || !s.Usable(now) {
		t.Errorf("fresh %v, usable %v: a token from the future is stale", s.Fresh(now), s.Usable(now))
	}
}

func TestLead(t *testing.T) {
	now := transport.WallNow()
	for _, tt := range []struct {
		name                  string
		lifetime              time.Duration
		lead, skew            time.Duration
		refreshIn             time.Duration
		earliest, latest, end time.Duration // after now
	}{
		{"an hour", time.Hour, 0, 0, 0, 55 * time.Minute, 56 * time.Minute, time.Hour - 10*time.Second},
		{"a minute", time.Minute, 0, 0, 0, 40 * time.Second, 44 * time.Second, 54 * time.Second},
		{"lead beyond the lifetime", time.Minute, time.Hour, 0, 0, 30 * time.Second, 36 * time.Second, 54 * time.Second},
		{"skew beyond the lifetime", time.Minute, 0, time.Hour, 0, 40 * time.Second, 45 * time.Second, 45 * time.Second},
		{"the provider's wish", time.Hour, 0, 0, 10 * time.Minute, 10 * time.Minute, 10 * time.Minute, time.Hour - 10*time.Second},
		{"the provider's wish beyond the end", time.Hour, 0, 0, 2 * time.Hour, time.Hour - 10*time.Second, time.Hour - 10*time.Second, time.Hour - 10*time.Second},
		{"no lifetime at all", 0, 0, 0, 0, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &tokencache.Record{AccessToken: "x", ObtainedAt: now, Expiry: now.Add(tt.lifetime)}
			if tt.refreshIn != 0 {
				r.RefreshAt = now.Add(tt.refreshIn)
			}
			for range 100 {
				s := transport.NewSnapshot(r, tt.lead, tt.skew)
				at := time.Duration((*s.RefreshAt()) - now.UnixNano())
				if end := time.Duration(s.UseBefore() - now.UnixNano()); at < tt.earliest || at > tt.latest || end != tt.end {
					t.Fatalf("refresh after %v, end after %v; want %v to %v, and %v", at, end, tt.earliest, tt.latest, tt.end)
				}
			}
		})
	}
}

// A program that asks for a token and ends leaves no refresh behind that ends with it
// (users F1): in a process that has used the login for less than a minute, Token alone
// starts none, whether the token comes from the cache or from memory.
func TestTokenAloneStartsNoRefreshInAShortProcess(t *testing.T) {
	for _, tt := range []struct {
		name string
		use  func(*testing.T, *world, *transport.Source)
		want int // token requests within the minute
	}{
		{"Token", func(*testing.T, *world, *transport.Source) {}, 0},
		{"OAuth2", func(t *testing.T, _ *world, s *transport.Source) { s.OAuth2().Token() }, 0},
		{"a request", func(t *testing.T, w *world, s *transport.Source) { get(t, w.client(s), w.srv.APIURL()) }, 1},
		{"KeepFresh", func(t *testing.T, _ *world, s *transport.Source) { go s.KeepFresh(t.Context()) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				w.login(w.source(), "ann")
				time.Sleep(57 * time.Minute) // stale, and good for three minutes
				s := w.source()
				for range 59 {
					if tok, err := s.Token(t.Context()); err != nil || !w.srv.Valid(string(tok.AccessToken)) {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
				}
				w.wantCounts(0, 0)
				tt.use(t, w, s)
				time.Sleep(500 * time.Millisecond)
				w.wantCounts(tt.want, 0)
				time.Sleep(time.Second) // Such a process stays.
				s.Token(t.Context())
				time.Sleep(time.Second)
				w.wantCounts(1, 0)
			})
		})
	}
}
