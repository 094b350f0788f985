package transport_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// countLoads makes the store of w count its loads.
func (w *world) countLoads() *atomic.Int32 {
	loads := new(atomic.Int32)
	store := &troubled{Memory: w.store.(*tokencache.Memory)}
	store.fail(func(op string, _ int32) error {
		if op == "load" {
			loads.Add(1)
		}
		return nil
	})
	w.store = store
	return loads
}

// In an outage the token of a process that has had more luck is found at once by whoever
// calls less than ten times a second, and the cache is not asked more often than that.
func TestAPeersTokenEndsAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		lucky := w.source()
		w.login(lucky, "ann")
		loads := w.countLoads()
		s := w.source()
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Status(429, 10*time.Minute))
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
			t.Fatal(err)
		}
		before := loads.Load()
		for range 1000 {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if n := loads.Load() - before; n < 9 || n > 11 {
			t.Errorf("%d loads in a second", n)
		}
		w.wantCounts(1, 0)
		if _, err := lucky.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(transport.ReloadInterval)
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("the other process has a token: %v", err)
		}
		synctest.Wait()
		if n := w.seen(transport.EventRecovered); n != 1 {
			t.Errorf("%d recoveries were reported", n)
		}
		if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateFresh || st.Err != nil || !st.RetryAt.IsZero() {
			t.Errorf("status %+v, %v", st, err)
		}
		w.wantCounts(2, 0)
	})
}

// The same while that process has the lock: for longer than this one waits, or, with
// a store that sees changes, just until it has stored the token.
func TestAPeersTokenWhileTheLockIsHeld(t *testing.T) {
	for name, longest := range map[string]time.Duration{"memory": time.Minute, "files": 200 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			dir, err := tokencache.OpenDir(filepath.Join(t.TempDir(), "cache"))
			if err != nil {
				t.Fatal(err)
			}
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				cache := w.cache()
				if name == "files" {
					if cache, err = tokencache.New(dir, tokencache.KeyBytes(make([]byte, 32))); err != nil {
						t.Fatal(err)
					}
				}
				s := w.source(func(cfg *transport.SourceConfig) { cfg.Cache = cache })
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				unlock, err := cache.Lock(t.Context(), s.Cfg().Key)
				if err != nil {
					t.Fatal(err)
				}
				defer unlock()
				done := make(chan error, 1)
				go func() { _, err := s.Token(t.Context()); done <- err }()
				time.Sleep(time.Second)
				r, v, err := cache.Load(t.Context(), s.Cfg().Key)
				if err != nil {
					t.Fatal(err)
				}
				// First the note that it will spend the token, and then what it
				// got.
				r.Attempt = &tokencache.Attempt{At: transport.WallNow()}
				if v, err = cache.Save(t.Context(), s.Cfg().Key, r, v); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				r.Attempt, r.Generation, r.AccessToken, r.ObtainedAt, r.Expiry = nil, 2, "peer's", transport.WallNow(), transport.WallNow().Add(time.Hour)
				if _, err := cache.Save(t.Context(), s.Cfg().Key, r, v); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				if err := <-done; err != nil || time.Since(begun) > longest {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				w.wantCounts(0, 0)
			})
		})
	}
}

// A token that is too new to be replaced, and yet refused, has been revoked together with
// its login perhaps, and somebody has logged in anew.
func TestTheTokenOfANewLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		loads := w.countLoads()
		s, peer := w.source(), w.source()
		old := w.login(s, "ann")
		w.srv.RevokeFamily(old.RefreshToken)
		w.srv.RevokeAccess(old.AccessToken)
		c := w.client(s)
		before := loads.Load()
		for range 1000 {
			if status, _ := get(t, c, w.srv.APIURL()); status != 401 {
				t.Fatalf("status %d", status)
			}
			time.Sleep(time.Millisecond)
		}
		if n := loads.Load() - before; n < 9 || n > 11 {
			t.Errorf("%d loads in a second", n)
		}
		w.login(peer, "ann")
		time.Sleep(transport.ReloadInterval)
		if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
			t.Errorf("status %d, and another process has logged in", status)
		}
		synctest.Wait()
		if n := w.seen(transport.EventAdopted); n != 1 {
			t.Errorf("%d adoptions were reported", n)
		}
		w.wantCounts(0, 0)
	})
}

// How long the provider is left alone.
func TestTheNextAttempt(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fault    oauthtest.Fault
		min, max time.Duration
	}{
		{"its wish", oauthtest.Status(429, 3*time.Minute), 3 * time.Minute, 3 * time.Minute},
		{"its excessive wish", oauthtest.Status(429, 24*time.Hour), transport.MaxRetryAfter, transport.MaxRetryAfter},
		{"not its wish for none", oauthtest.Status(429, 0), transport.MinPause, 2 * time.Second},
		{"misconfigured", oauthtest.Answer(401, "application/json", `{"error":"invalid_client"}`), transport.MisconfiguredPause, transport.MisconfiguredPause},
		{"a wish in an answer that may have been processed", oauthtest.Status(503, time.Minute), time.Minute, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				for range 20 {
					w := newWorld(t, oauthtest.Config{Policy: oauthtest.KeepOld})
					s := w.source()
					w.login(s, "ann")
					time.Sleep(2 * time.Hour)
					w.srv.Fault("/token", 0, tt.fault)
					_, err := s.Token(t.Context())
					if d := transport.AsError(err).RetryAt.Sub(transport.WallNow()); d < tt.min || d > tt.max {
						t.Fatalf("the next attempt is in %v, want %v to %v", d, tt.min, tt.max)
					}
					w.wantCounts(1, 0) // No second attempt at once.
					w.srv.Close()
				}
			})
		})
	}
}

// A Retry-After that a custom Refresher has not bounded is bounded here.
func TestAnExcessiveRetryAfter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source(func(c *transport.SourceConfig) {
			c.Refresher = refuser{w.endpoint(), &transport.Error{Kind: transport.ErrUnavailable, RetryAfter: 1000 * time.Hour}}
		})
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		_, err := s.Token(t.Context())
		if d := transport.AsError(err).RetryAt.Sub(transport.WallNow()); d != transport.MaxRetryAfter {
			t.Errorf("the next attempt is in %v", d)
		}
	})
}

// Where a login is required, the cache is looked at for somebody else's, and the
// error is reported once.
func TestADeadLoginIsReportedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		w.login(w.source(), "ann")
		loads := w.countLoads()
		s := w.source()
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(57 * time.Minute) // The access token is not known to be dead.
		begun := loads.Load()
		for range 1000 {
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			time.Sleep(100 * time.Millisecond)
		}
		if n := loads.Load() - begun; n > 16 {
			t.Errorf("%d loads in 100 seconds", n)
		}
		time.Sleep(time.Hour)
		for range 10 {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := w.seen(transport.EventLoginRequired); n != 1 {
			t.Errorf("reported %d times", n)
		}
		w.wantCounts(1, 0)

		// A login ends that, and what follows it is reported again.
		w.login(s, "ann")
		if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateFresh || st.Err != nil {
			t.Errorf("status %+v, %v", st, err)
		}
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := w.seen(transport.EventLoginRequired); n != 2 {
			t.Errorf("reported %d times", n)
		}
		w.wantCounts(2, 0)
	})
}

// A refuser is an Endpoint whose refreshes fail.
type refuser struct {
	*endpoint.Endpoint
	err error
}

func (r refuser) Refresh(context.Context, *tokencache.Record) (*tokencache.Record, error) {
	return nil, r.err
}

// A tombstone of an earlier state, written by somebody who knows of no lock or put
// back with a backup, does not end a login of which memory knows better.
func TestATombstoneOfAnEarlierState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		old := w.stored(s)
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		old.Tombstone = &tokencache.Tombstone{At: transport.WallNow(), Code: "invalid_grant"}
		replaceStored(t, s, store, old)
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
		if r := w.stored(s); r.Generation != 3 || r.Tombstone != nil {
			t.Errorf("generation %d, tombstone %+v", r.Generation, r.Tombstone)
		}
		w.wantCounts(2, 0)
	})
}

// In an outage, a process learns from the cache that the login is over, and that
// there is a new one.
func TestAPeersRefusalEndsAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s, peer := w.source(), w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Status(429, 10*time.Minute))
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
			t.Fatal(err)
		}
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		if _, err := peer.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Fatal(err)
		}
		time.Sleep(2 * transport.ReloadInterval)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateDead || w.seen(transport.EventLoginRequired) != 2 {
			t.Errorf("status %+v, %v; reported %d times", st, err, w.seen(transport.EventLoginRequired))
		}
		w.login(peer, "ann")
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("after the login of another process: %v", err)
		}
		w.wantCounts(2, 0)
	})
}
