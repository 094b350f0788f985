package transport_test

import (
	"context"
	"errors"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// What somebody's code does to a goroutine that is ours ends one attempt, and no program.
func TestForeignCodeEndsNoProgram(t *testing.T) {
	for name, do := range map[string]func(){
		"panic":          func() { panic("at-a-secret-that-must-not-be-printed") },
		"runtime.Goexit": runtime.Goexit,
	} {
		t.Run("Refresher/"+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				good := s.Cfg().Refresher
				s.Cfg().Refresher = watchedRefresher{Endpoint: w.endpoint(), before: func(*tokencache.Record) { do() }}
				_, err := s.Token(t.Context())
				if !errors.Is(err, transport.ErrAmbiguous) || strings.Contains(err.Error(), "secret") {
					t.Fatalf("got %v", err)
				}
				s.Cfg().Refresher = good
				time.Sleep(10 * time.Minute)
				use(t, s, nil)
			})
		})
		t.Run("Store/"+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				_, store, s := expiredOver(t, oauthtest.StrictFamily)
				journal := store.n.Load() + 1
				store.fail(func(op string, n int32) error {
					if op == "save" && n == journal+1 {
						do()
					}
					return nil
				})
				// A save that panics is one that has failed, and is repeated. What ends the
				// goroutine cannot be survived.
				if _, err := s.Token(t.Context()); name == "panic" && err != nil || name != "panic" && !errors.Is(err, transport.ErrAmbiguous) {
					t.Errorf("got %v", err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				unlock, err := s.Cfg().Cache.Lock(ctx, s.Key())
				if err != nil {
					t.Fatalf("the lock is held: %v", err)
				}
				unlock()
			})
		})
		t.Run("OnEvent/"+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				said := 0
				s := w.source(func(c *transport.SourceConfig) {
					c.OnEvent = func(_ context.Context, e transport.Event) {
						if said++; e.Type == transport.EventRefreshed {
							do()
						}
					}
				})
				w.login(s, "ann")
				for range 3 {
					time.Sleep(2 * time.Hour)
					if _, err := s.Token(t.Context()); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				if said != 4 {
					t.Errorf("told of %d events, want 4", said)
				}
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A store that panics in Lock, or when the lock is given back, keeps nobody from the login.
func TestAPanicLeavesTheLoginToOthers(t *testing.T) {
	for _, where := range []string{"lock", "unlock", "look"} {
		t.Run(where, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				store := &panicking{troubled: &troubled{Memory: new(tokencache.Memory)}}
				w.store = store
				s := w.source(func(c *transport.SourceConfig) {
					e := c.Refresher.(*endpoint.Endpoint)
					e.AuthParams = url.Values{"audience": {"A"}} // so that the lock is taken with a look
				})
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				locked := false
				store.fail(func(op string, _ int32) error {
					if op == where || where == "look" && op == "load" && locked {
						panic("the driver of a database")
					}
					locked = locked || op == "lock"
					return nil
				})
				if _, err := s.Token(t.Context()); err == nil && where != "unlock" {
					t.Error("there is no panic")
				}
				store.heal()
				time.Sleep(2 * time.Hour)
				use(t, s, nil)
				other := w.source(func(c *transport.SourceConfig) { *c = *s.Cfg() })
				time.Sleep(2 * time.Hour)
				use(t, other, nil)
				w.wantCounts(w.srv.Counts().TokenRequests, 0)
			})
		})
	}
}

// A save that panics has failed like any other: the tokens are kept and saved.
func TestASaveThatPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, store, s := expiredOver(t, oauthtest.StrictFamily)
		journal := store.n.Load() + 1
		store.fail(func(op string, n int32) error {
			if op == "save" && n > journal {
				panic("refresh_token=" + w.srv.Current("ann").RefreshToken)
			}
			return nil
		})
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); !errors.Is(err, transport.ErrStorage) || contains(err.Error(), w.srv.Secrets()) {
			t.Errorf("Flush: %v", err)
		}
		time.Sleep(time.Minute)
		store.heal()
		time.Sleep(2 * time.Second)
		wantSettled(t, w, s, transport.StateFresh)
		w.wantCounts(1, 0)
	})
}

// The saver outlives the panic of a store.
func TestTheSaverOutlivesAPanic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, s, store := unsaved(t, oauthtest.StrictFamily)
		store.fail(func(op string, _ int32) error {
			if op == "save" {
				panic("the driver of a database")
			}
			return nil
		})
		time.Sleep(time.Minute)
		store.heal()
		time.Sleep(2 * time.Second)
		wantSettled(t, w, s, transport.StateFresh)
	})
}

type panicking struct{ *troubled }

func (s panicking) Lock(ctx context.Context, name string) (func() error, error) {
	if err := s.check("lock", 0); err != nil {
		return nil, err
	}
	unlock, err := s.Memory.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return func() error { unlock(); return s.check("unlock", 0) }, nil
}
