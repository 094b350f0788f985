package transport

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// TestAWaitIsAnnounced: whoever logs in or out while somebody else works on the login is
// told so while it lasts, and not for ever.
func TestAWaitIsAnnounced(t *testing.T) {
	for name, do := range map[string]func(context.Context, *world, *Source) error{
		"login":  func(ctx context.Context, w *world, s *Source) error { return s.Login(ctx, record(w.srv.Login("ann"))) },
		"logout": func(ctx context.Context, _ *world, s *Source) error { return s.Logout(ctx) },
		"forget": func(ctx context.Context, _ *world, s *Source) error { return s.Forget(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				w.wantEvents(EventLogin)
				unlock, err := s.cfg.Cache.Lock(t.Context(), s.key())
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				err = do(t.Context(), w, s)
				if e, ok := errors.AsType[*Error](err); !ok || e.Kind != ErrUnavailable || time.Since(begun) != longestLock {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				e := w.wantEvents(EventWaiting)[0]
				if e.At.Sub(begun) != announceAfter || !strings.Contains(e.Err.Error(), "waiting") {
					t.Errorf("announced after %v: %v", e.At.Sub(begun), e.Err)
				}

				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				begun = time.Now()
				if err := do(ctx, w, s); err == nil || time.Since(begun) != 5*time.Second {
					t.Errorf("a context with a deadline: %v after %v", err, time.Since(begun))
				}
				w.wantEvents(EventWaiting)

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
		if w.seen(EventWaiting) != 0 {
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
				w.wantEvents(EventLogin)
				unlock, err := s.cfg.Cache.Lock(t.Context(), s.key())
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(blocked, func() { unlock() })
				begun := time.Now()
				_, err = s.Token(t.Context())
				want := []EventType{EventWaiting, EventRefreshed}
				if blocked > lockTimeout {
					want = []EventType{EventWaiting, EventRefreshFailed, EventOutage}
				}
				e := w.wantEvents(want...)[0]
				if e.At.Sub(begun) != announceAfter || !strings.Contains(e.Err.Error(), "waiting") {
					t.Errorf("announced after %v: %v", e.At.Sub(begun), e.Err)
				}
				if took := time.Since(begun); took > lockTimeout || (err == nil) != (blocked < lockTimeout) {
					t.Errorf("after %v: %v", took, err)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}
