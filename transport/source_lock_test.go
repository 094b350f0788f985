package transport_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// TestAWaitIsAnnounced: whoever logs in or out while somebody else works on the login is
// told so while it lasts, and not for ever.
func TestAWaitIsAnnounced(t *testing.T) {
	for name, do := range map[string]func(context.Context, *world, *transport.Source) error{
		"login": func(ctx context.Context, w *world, s *transport.Source) error {
			return s.Login(ctx, record(w.srv.Login("ann")))
		},
		"logout": func(ctx context.Context, _ *world, s *transport.Source) error { return s.Logout(ctx) },
		"forget": func(ctx context.Context, _ *world, s *transport.Source) error { return s.Forget(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				w.wantEvents(transport.EventLogin)
				unlock, err := s.Cfg().Cache.Lock(t.Context(), s.Key())
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				err = do(t.Context(), w, s)
				if e, ok := errors.AsType[*transport.Error](err); !ok || e.Kind != transport.ErrUnavailable || time.Since(begun) != transport.LongestLock {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				e := w.wantEvents(transport.EventWaiting)[0]
				if e.At.Sub(begun) != transport.AnnounceAfter || !strings.Contains(e.Err.Error(), "waiting") {
					t.Errorf("announced after %v: %v", e.At.Sub(begun), e.Err)
				}

				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				begun = time.Now()
				if err := do(ctx, w, s); err == nil || time.Since(begun) != 5*time.Second {
					t.Errorf("a context with a deadline: %v after %v", err, time.Since(begun))
				}
				w.wantEvents(transport.EventWaiting)

				done := make(chan error)
				go func() { done <- do(t.Context(), w, s) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				if err := unlock(); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Errorf("when the other is done: %v", err)
				}
			})
		})
	}
}

// TestAShortWaitIsNotAnnounced: an ordinary refresh takes a second.
func TestAShortWaitIsNotAnnounced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Second})
		a, b := w.source(), w.source()
		w.login(a, "ann")
		time.Sleep(time.Hour)
		go a.Token(context.Background())
		synctest.Wait()
		if err := b.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.seen(transport.EventWaiting) != 0 {
			t.Error("announced")
		}
		time.Sleep(time.Minute)
	})
}

// TestARefreshThatWaitsIsAnnounced: so does a program that waits for a token which another
// process is renewing. It is told by an error after ten seconds, and gets the token if the
// other goes on before that.
func TestARefreshThatWaitsIsAnnounced(t *testing.T) {
	for _, blocked := range []time.Duration{5 * time.Second, time.Hour} {
		t.Run(blocked.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				w.wantEvents(transport.EventLogin)
				unlock, err := s.Cfg().Cache.Lock(t.Context(), s.Key())
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(blocked, func() { unlock() })
				begun := time.Now()
				_, err = s.Token(t.Context())
				want := []transport.EventType{transport.EventWaiting, transport.EventRefreshed}
				if blocked > transport.LockTimeout {
					want = []transport.EventType{transport.EventWaiting, transport.EventRefreshFailed, transport.EventOutage}
				}
				e := w.wantEvents(want...)[0]
				if e.At.Sub(begun) != transport.AnnounceAfter || !strings.Contains(e.Err.Error(), "waiting") {
					t.Errorf("announced after %v: %v", e.At.Sub(begun), e.Err)
				}
				if took := time.Since(begun); took > transport.LockTimeout || (err == nil) != (blocked < transport.LockTimeout) {
					t.Errorf("after %v: %v", took, err)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// A call whose context has been canceled says that, and blames no other process.
func TestACanceledCallBlamesNobody(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	s := w.source()
	w.login(s, "ann")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Logout(ctx)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, transport.ErrUnavailable) || strings.Contains(err.Error(), "another process") {
		t.Error(err)
	}
}
