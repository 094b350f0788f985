package transport_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A hung store is not waited for on behalf of a response that is there.
type silentStore struct {
	*tokencache.Memory
	silent atomic.Bool
	locked func() // if set, is called by who has the lock
}

func (s *silentStore) Lock(ctx context.Context, name string) (func() error, error) {
	unlock, err := s.Memory.Lock(ctx, name)
	if err == nil && s.locked != nil {
		s.locked()
	}
	return unlock, err
}

func (s *silentStore) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	if s.silent.Load() {
		<-ctx.Done()
		return nil, "", ctx.Err()
	}
	return s.Memory.Load(ctx, name)
}

// A 401 is returned in time, whatever hangs, and so is what is asked afterwards.
func TestA401IsNotHeldBack(t *testing.T) {
	for name, hang := range map[string]func(*world, *silentStore){
		"a hung cache":      func(_ *world, store *silentStore) { store.silent.Store(true) },
		"a hung provider":   func(w *world, _ *silentStore) { w.srv.Fault("/token", 0, oauthtest.Hang) },
		"a frozen provider": func(w *world, _ *silentStore) { w.srv.Freeze() },
	} {
		for age, old := range map[string]time.Duration{"a new token": time.Second, "an old token": time.Minute} {
			t.Run(name+"/"+age, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
					store := &silentStore{Memory: new(tokencache.Memory)}
					w.store = store
					s := w.source()
					w.login(s, "ann")
					c := w.client(s)
					get(t, c, w.srv.APIURL())
					time.Sleep(old)
					w.srv.RevokeAccess(w.srv.Current("ann").AccessToken)
					hang(w, store)
					for range 3 {
						begun := time.Now()
						resp, err := c.Get(w.srv.APIURL())
						if took := time.Since(begun); err != nil || resp.StatusCode != 401 || took > transport.RejectTime {
							t.Fatalf("after %v: %v", took, err)
						}
						resp.Body.Close()
						time.Sleep(10 * time.Second)
					}
					store.silent.Store(false)
					w.srv.Heal()
					w.srv.Thaw()
					time.Sleep(time.Minute)
					if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
						t.Errorf("afterwards: %d", status)
					}
					w.wantCounts(w.srv.Counts().TokenRequests, 0)
				})
			})
		}
	}
}

// The 401 of one API takes the token away from no other, least of all while there is no
// other token to be had.
func TestOneAPIsRefusalIsNotTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Minute)
		w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
		w.srv.Fault("/api/first", 0, oauthtest.Challenge(401))
		c := w.client(s)
		for range 20 {
			if status, _ := get(t, c, w.srv.APIURL()+"/first"); status != 401 {
				t.Fatalf("status %d", status)
			}
			begun := time.Now()
			if status, _ := get(t, c, w.srv.APIURL()+"/second"); status != 200 || time.Since(begun) > time.Second {
				t.Fatalf("status %d after %v", status, time.Since(begun))
			}
			time.Sleep(time.Minute)
		}
	})
}

// A log may be shipped with the token that it is about: no lock is held when it is written.
func TestALogMayUseTheSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		var s *transport.Source
		lines := 0
		s = w.source(func(c *transport.SourceConfig) {
			c.Logger = slog.New(handlerFunc(func(ctx context.Context, _ slog.Record) {
				lines++
				ctx, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				if _, err := s.Token(ctx); errors.Is(err, context.DeadlineExceeded) {
					t.Error("the log waits for what waits for the log")
				}
			}))
		})
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Status(429, 0))
		store.failAfterJournal(tokencache.ErrUnavailable) // The journal cannot be cleared.
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if lines < 3 {
			t.Errorf("%d lines", lines)
		}
		store.heal()
		time.Sleep(time.Minute)
		use(t, s, nil)
	})
}

type handlerFunc func(context.Context, slog.Record)

func (f handlerFunc) Enabled(context.Context, slog.Level) bool { return true }

func (f handlerFunc) Handle(ctx context.Context, r slog.Record) error { f(ctx, r); return nil }

func (f handlerFunc) WithAttrs([]slog.Attr) slog.Handler { return f }

func (f handlerFunc) WithGroup(string) slog.Handler { return f }

// Close does not wait for a listener longer than its context.
func TestCloseHeedsItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		heard := make(chan struct{})
		s := w.source(func(c *transport.SourceConfig) {
			c.OnEvent = func(_ context.Context, e transport.Event) {
				if e.Type == transport.EventRefreshed {
					<-heard
				}
			}
		})
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		close(heard)
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A refresh that ends after a Close which gave up waiting for it, and that cannot be
// saved, is saved when the store is well again.
func TestARefreshThatOutlivesCloseIsSaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 2 * time.Second})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.failAfterJournal(tokencache.ErrUnavailable)
		go s.Token(t.Context())
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := s.Close(ctx); err == nil {
			t.Error("Close has waited for nothing")
		}
		time.Sleep(time.Hour)
		store.heal()
		time.Sleep(2 * time.Second)
		if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
			t.Error("the refresh token that works is not stored")
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		unlock, err := s.Cfg().Cache.Lock(ctx, s.Key())
		if err != nil {
			t.Fatalf("the lock is held: %v", err)
		}
		unlock()
	})
}

// A Pool does not keep a Source that somebody has closed.
func TestAPoolReplacesAClosedSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		p, c := w.pool(4)
		names := w.accounts(p, 8)
		for range 3 {
			for _, name := range names {
				s := p.Source(name)
				if err := s.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if p.Source(name) == s {
					t.Fatalf("%s: the closed Source is handed out", name)
				}
			}
			time.Sleep(2 * time.Hour)
			for _, name := range names {
				if got, err := w.whoami(c, name); err != nil || got != name {
					t.Errorf("%q, %v", got, err)
				}
			}
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if s := p.Source(names[0]); !s.Closed().Load() {
			t.Error("the pool is closed, and makes a new Source")
		}
	})
}

// An outage that ends while somebody looks for another process's token is no error, and
// no typed nil.
func TestALookThatFindsNothingAfterAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 20 * time.Second})
		store := &silentStore{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		tok, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.srv.Fault("/token", 0, oauthtest.Status(429, time.Hour))
		time.Sleep(30 * time.Second)
		for range 100 {
			go s.Reject(t.Context(), tok)
			if _, err := s.Token(t.Context()); err != nil && err.Error() == "" {
				t.Fatal("an error without a text")
			}
			time.Sleep(70 * time.Millisecond)
		}
	})
}

// A store that falls silent in the middle of a refresh holds nobody up for long, and the
// lock is given back.
func TestAStoreThatFallsSilentInARefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &silentStore{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.locked = func() { store.silent.Store(true) }
		begun := time.Now()
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrStorage) || time.Since(begun) > transport.LongestWait {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		store.locked = nil
		store.silent.Store(false)
		time.Sleep(10 * time.Second)
		use(t, s, nil)
		w.wantCounts(1, 0)
	})
}
