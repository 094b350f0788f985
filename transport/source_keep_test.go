package transport_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// KeepFresh has the next token at hand before anybody needs it, rides out an
// outage without a storm, notices another process's login, and ends with ctx.
func TestKeepFreshThroughItAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Second})
		loads := w.countLoads()
		s, peer := w.source(), w.source()
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.KeepFresh(ctx) }()

		time.Sleep(10 * time.Minute) // not logged in
		if n := loads.Load(); n < 30 || n > 100 {
			t.Errorf("%d loads in 10 minutes without a login", n)
		}
		w.login(peer, "ann")
		time.Sleep(16 * time.Second)
		if cur := s.Cur().Load(); !cur.Fresh(transport.WallNow()) {
			t.Error("the login of another process was not noticed")
		}
		if s.Keepers().Load() != 1 {
			t.Error("nobody knows that KeepFresh is running")
		}

		for range 5 {
			time.Sleep(time.Hour)
			if cur := s.Cur().Load(); !cur.Fresh(transport.WallNow()) {
				t.Error("the token is not fresh")
			}
		}
		if n := w.srv.Counts().TokenRequests; n < 5 || n > 6 {
			t.Errorf("%d token requests in five hours", n)
		}

		w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
		before := w.srv.Counts().TokenRequests
		time.Sleep(5 * time.Hour)
		if n := w.srv.Counts().TokenRequests - before; n < 60 || n > 600 {
			t.Errorf("%d token requests in five hours of outage", n)
		}
		w.srv.Heal()
		time.Sleep(10 * time.Minute)
		if cur := s.Cur().Load(); !cur.Fresh(transport.WallNow()) {
			t.Error("the token is not fresh after the outage")
		}

		why := errors.New("the program ends")
		cancel(why)
		if err := <-ended; err != why {
			t.Errorf("ended with %v", err)
		}
		if s.Keepers().Load() != 0 {
			t.Error("it still counts as running")
		}
	})
}

// KeepFresh of a closed Source does not run wild.
func TestKeepFreshAfterClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		loads := w.countLoads()
		s := w.source()
		w.login(s, "ann")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.KeepFresh(ctx)
		time.Sleep(30 * time.Minute)
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := loads.Load()
		time.Sleep(26 * time.Minute) // stale, but still good
		if tok, err := s.Token(t.Context()); err != nil || tok.AccessToken == "" {
			t.Errorf("a good token of a closed Source: %v", err)
		}
		time.Sleep(day)
		if n := loads.Load() - before; n != 0 {
			t.Errorf("%d loads after Close", n)
		}
		w.wantCounts(0, 0)
	})
}

// Flush and Close wait for a refresh, but not longer than they are told, and
// nothing runs after Close.
func TestFlushAndClose(t *testing.T) {
	for _, tt := range []struct {
		name string
		call func(*transport.Source, context.Context) error
	}{{"Flush", (*transport.Source).Flush}, {"Close", (*transport.Source).Close}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 10 * time.Second})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(58 * time.Minute)
				if _, err := s.Token(t.Context()); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				if err := tt.call(s, ctx); !errors.Is(err, transport.ErrStorage) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				if err := tt.call(s, t.Context()); err != nil || time.Since(begun) != 10*time.Second {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				if r := w.stored(s); r.Generation != 2 {
					t.Errorf("generation %d", r.Generation)
				}
				if n := w.seen(transport.EventRefreshed); tt.name == "Close" && n != 1 {
					t.Errorf("%d events when Close returned", n)
				}
				synctest.Wait()
				time.Sleep(2 * time.Hour)
				if _, err := s.Token(t.Context()); (tt.name == "Close") != errors.Is(err, transport.ErrMisconfigured) {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// Flush without anything to wait for asks nobody.
func TestFlushOfNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		loads := w.countLoads()
		s := w.source()
		for range 2 {
			if err := s.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if n := loads.Load(); n != 0 {
			t.Errorf("%d loads", n)
		}
	})
}

// What Status says of each state, and that it asks the cache and not the provider.
func TestStatus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s, peer := w.source(), w.source()
		want := func(state transport.State, says string) transport.Status {
			t.Helper()
			synctest.Wait()
			st, err := s.Status(t.Context())
			if err != nil || st.State != state || st.Key.ClientID != w.srv.ClientID() {
				t.Fatalf("status %+v, %v; want state %q", st, err, state)
			}
			if !strings.HasPrefix(st.String(), says) || says == "logged in" && st.String() != says {
				t.Errorf("%s: %q, want %q", state, st, says)
			}
			return st
		}
		want(transport.StateEmpty, "not logged in")
		w.login(peer, "ann")
		begun := transport.WallNow()
		st := want(transport.StateFresh, "logged in") // although it has not used it yet
		if !st.AuthorizedAt.Equal(begun) || !st.ObtainedAt.Equal(begun) || !st.Expiry.Equal(begun.Add(time.Hour)) || st.Generation != 1 ||
			!st.RefreshAt.After(begun.Add(50*time.Minute)) || !st.RefreshAt.Before(st.Expiry) || st.Err != nil || !st.RetryAt.IsZero() {
			t.Errorf("status %+v", st)
		}
		time.Sleep(57 * time.Minute)
		want(transport.StateStale, "logged in; the token is renewed when it is next used")
		time.Sleep(3 * time.Minute)
		want(transport.StateExpired, "logged in; the token is renewed when it is next used")
		w.srv.Fault("/token", 0, oauthtest.Status(429, 2*time.Minute))
		s.Token(t.Context())
		if st := want(transport.StateOutage, "logged in, but there is no new token for now: provider unavailable (HTTP 429); next attempt at "); !errors.Is(st.Err, transport.ErrUnavailable) || !st.RetryAt.Equal(transport.WallNow().Add(2*time.Minute)) {
			t.Errorf("status %+v", st)
		}
		w.srv.Heal()
		if _, err := peer.Token(t.Context()); err != nil { // newer than what s has
			t.Fatal(err)
		}
		if st := want(transport.StateOutage, "logged in with a token that is good until "+transport.WallNow().Add(time.Hour).Format(time.RFC3339)+", but there is no new token for now: "); st.Generation != 2 {
			t.Errorf("status %+v", st)
		}
		time.Sleep(2 * time.Minute)
		want(transport.StateFresh, "logged in")

		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		peer.Token(t.Context())
		if st := want(transport.StateDead, "login required: invalid_grant: the login was revoked; log in again"); !errors.Is(st.Err, transport.ErrLoginRequired) { // as the tombstone says
			t.Errorf("status %+v", st)
		}
		w.login(peer, "ann")
		want(transport.StateFresh, "logged in")

		// What a refresh that was interrupted has left behind, seen by any process.
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Status(503, time.Second))
		begun = transport.WallNow()
		peer.Token(t.Context())
		st = want(transport.StateExpired, "logged in; the token is renewed when it is next used; a refresh that began at "+begun.Format(time.RFC3339)+" is under way or was interrupted")
		if !st.AttemptAt.Equal(begun) {
			t.Errorf("status %+v", st)
		}
		time.Sleep(time.Minute)
		if _, err := peer.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := want(transport.StateFresh, "logged in"); !st.AttemptAt.IsZero() {
			t.Errorf("status %+v", st)
		}

		store.fail(func(op string, _ int32) error {
			if op == "load" {
				return tokencache.ErrUnavailable
			}
			return nil
		})
		if _, err := s.Status(t.Context()); !errors.Is(err, transport.ErrStorage) || !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		store.heal()
		if err := peer.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(transport.StateEmpty, "not logged in")
	})
}

// Of a refresh token that has expired, and of one that is not saved, a person is told.
func TestStatusOfRefreshTokens(t *testing.T) {
	past, full := time.Now().Add(-time.Hour), &transport.Error{Kind: transport.ErrStorage, Op: "save", Remedy: "make room"}
	for _, tt := range []struct {
		status transport.Status
		want   string
	}{
		{transport.Status{}, "not logged in"},
		{transport.Status{State: transport.StateFresh, RefreshExpiry: past}, "logged in"},
		{transport.Status{State: transport.StateExpired, RefreshExpiry: past}, "logged in; the token is renewed when it is next used; the refresh token has expired, so a login is likely to be required"},
		{transport.Status{State: transport.StateUnsaved, Err: full}, "logged in, but not saved: save: token cache; make room"},
	} {
		if got := tt.status.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// The adapter hands out access tokens, and waits no longer than the Source does.
func TestOAuth2(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source(func(c *transport.SourceConfig) { c.Timeout = 3 * time.Second })
		w.login(s, "ann")
		tok, err := s.OAuth2().Token()
		if err != nil || tok.AccessToken != w.srv.Current("ann").AccessToken || tok.RefreshToken != "" || tok.Type() != "Bearer" || !tok.Expiry.Equal(transport.WallNow().Add(13*time.Second)) {
			t.Fatalf("type %q, expiry %v, a refresh token, or another access token: %v", tok.Type(), tok.Expiry, err)
		}
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Hang)
		begun := time.Now()
		if _, err := s.OAuth2().Token(); err == nil || time.Since(begun) > 3*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}
