package transport_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// unsaved returns a world with a Source whose last rotation could not be saved,
// and the record that it was to replace.
func unsaved(t *testing.T, policy oauthtest.Policy) (*world, *transport.Source, *troubled) {
	t.Helper()
	w := newWorld(t, oauthtest.Config{Policy: policy})
	store := &troubled{Memory: new(tokencache.Memory)}
	w.store = store
	s := w.source(func(c *transport.SourceConfig) {
		c.Refresher.(*endpoint.Endpoint).RevocationURL = w.srv.URL() + "/revoke"
	})
	w.login(s, "ann")
	time.Sleep(2 * time.Hour)
	store.failAfterJournal(tokencache.ErrUnavailable)
	if _, err := s.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateUnsaved {
		t.Fatalf("status %+v, %v", st, err)
	}
	return w, s, store
}

// wantSettled checks that nothing of the state unsaved is left.
func wantSettled(t *testing.T, w *world, s *transport.Source, state transport.State) {
	t.Helper()
	synctest.Wait()
	if err := s.Flush(t.Context()); err != nil {
		t.Errorf("Flush: %v", err)
	}
	if st, err := s.Status(t.Context()); err != nil || st.State != state {
		t.Errorf("status %+v, %v; want state %s", st, err, state)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	unlock, err := s.Cfg().Cache.Lock(ctx, s.Cfg().Key)
	if err != nil {
		t.Fatalf("the lock is still held: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	saves := w.store.(*troubled).n.Load()
	time.Sleep(10 * time.Minute)
	if n := w.store.(*troubled).n.Load(); n != saves {
		t.Errorf("%d more saves", n-saves)
	}
}

// What ends the state unsaved, other than the save.
func TestTheEndOfUnsaved(t *testing.T) {
	for _, tt := range []struct {
		name  string
		act   func(*testing.T, *world, *transport.Source, *troubled)
		state transport.State
		told  []transport.EventType // after that it is unsaved
	}{
		{"the save", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			store.heal()
			time.Sleep(time.Minute)
			if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken || r.Attempt != nil {
				t.Errorf("stored: %v", r)
			}
		}, transport.StateFresh, []transport.EventType{transport.EventSaved}},
		{"Login", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			if err := s.Login(t.Context(), record(w.srv.Login("bob"))); !errors.Is(err, transport.ErrStorage) {
				t.Errorf("Login while the store is down: %v", err)
			}
			if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateUnsaved {
				t.Errorf("after a Login that failed: %+v, %v", st, err)
			}
			store.heal()
			w.login(s, "bob")
			if string(w.stored(s).RefreshToken) != w.srv.Current("bob").RefreshToken {
				t.Error("the login is not stored")
			}
			if tok, err := s.Token(t.Context()); err != nil || string(tok.AccessToken) != w.srv.Current("bob").AccessToken {
				t.Errorf("not the token of the login: %v", err)
			}
		}, transport.StateFresh, []transport.EventType{transport.EventLogin}},
		{"Logout", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			newest := w.srv.Current("ann")
			if err := s.Logout(t.Context()); err != nil { // deleting needs no space
				t.Fatal(err)
			}
			if w.srv.Valid(newest.RefreshToken) || w.srv.Valid(newest.AccessToken) {
				t.Error("the newest tokens live on at the provider")
			}
			store.heal()
		}, transport.StateEmpty, []transport.EventType{transport.EventLogout}},
		{"Forget", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			if err := s.Forget(t.Context()); err != nil {
				t.Fatal(err)
			}
			store.heal()
		}, transport.StateEmpty, []transport.EventType{transport.EventLogout}},
		{"the next rotation", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			time.Sleep(2 * time.Hour)
			store.heal()
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, transport.StateFresh, []transport.EventType{transport.EventSaved, transport.EventRefreshed}},
		{"the provider", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
			time.Sleep(2 * time.Hour)
			for range 3 {
				if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
					t.Fatalf("got %v", err)
				}
				time.Sleep(time.Minute)
			}
			w.wantCounts(2, 0) // It was asked once, although the tombstone could not be stored.
			store.heal()
		}, transport.StateDead, []transport.EventType{transport.EventLoginRequired}},
		{"a login without the lock", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			r := record(w.srv.Login("bob"))
			r.LoginID, r.Generation, r.AuthorizedAt, r.TokenURL = transport.NewLoginID(), 1, transport.WallNow(), w.srv.TokenURL()
			replaceStored(t, s, store, r)
			store.heal()
			time.Sleep(time.Minute)
			if tok, err := s.Token(t.Context()); err != nil || string(tok.AccessToken) != w.srv.Current("bob").AccessToken {
				t.Errorf("not the token of the login: %v", err)
			}
		}, transport.StateFresh, []transport.EventType{transport.EventAdopted}},
		{"a later state without the lock", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			r := s.Cur().Load().Rec().Clone()
			r.Generation += 5
			r.AccessToken = "later"
			replaceStored(t, s, store, r)
			store.heal()
			time.Sleep(time.Minute)
			if tok, err := s.Token(t.Context()); err != nil || tok.AccessToken != "later" {
				t.Errorf("not the later token: %v", err)
			}
		}, transport.StateFresh, []transport.EventType{transport.EventAdopted}},
		{"an earlier state without the lock", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			r := w.stored(s)
			r.AccessToken = "earlier"
			replaceStored(t, s, store, r)
			store.heal()
			time.Sleep(time.Minute)
			if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
				t.Error("the rotation was not saved")
			}
		}, transport.StateFresh, []transport.EventType{transport.EventSaved}},
		{"an earlier rotation of the same refresh token without the lock", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			r := s.Cur().Load().Rec().Clone()
			r.ObtainedAt = r.ObtainedAt.Add(-time.Second)
			r.AccessToken, r.RefreshToken = "earlier", "earlier"
			replaceStored(t, s, store, r)
			store.heal()
			time.Sleep(time.Minute)
			if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
				t.Error("the rotation was not saved")
			}
		}, transport.StateFresh, []transport.EventType{transport.EventSaved}},
		{"a logout without the lock", func(t *testing.T, w *world, s *transport.Source, store *troubled) {
			_, v, err := s.Cfg().Cache.Load(t.Context(), s.Cfg().Key)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Cfg().Cache.Delete(t.Context(), s.Cfg().Key, v); err != nil {
				t.Fatal(err)
			}
			store.heal()
			time.Sleep(time.Minute)
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
				t.Errorf("got %v", err)
			}
		}, transport.StateEmpty, []transport.EventType{transport.EventLoginRequired}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, s, store := unsaved(t, oauthtest.StrictFamily)
				w.wantEvents(transport.EventLogin, transport.EventUnsaved, transport.EventRefreshed)
				tt.act(t, w, s, store)
				wantSettled(t, w, s, tt.state)
				w.wantEvents(tt.told...)
				if c := w.srv.Counts(); c.Reuses != 0 {
					t.Errorf("%d reuses", c.Reuses)
				}
			})
		})
	}
}

// replaceStored stores r as somebody would who knows of no locks.
func replaceStored(t *testing.T, s *transport.Source, store *troubled, r *tokencache.Record) {
	t.Helper()
	trouble := store.trouble.Swap(nil)
	defer store.trouble.Store(trouble)
	_, v, err := s.Cfg().Cache.Load(t.Context(), s.Cfg().Key)
	if err == nil {
		_, err = s.Cfg().Cache.Save(t.Context(), s.Cfg().Key, r, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// As long as the process lives, nobody else has the refresh token that works: it is saved
// also after a Close that could not save it, and until then nobody else gets the lock.
func TestALoginIsSavedAfterAFailedClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, s, store := unsaved(t, oauthtest.StrictFamily)
		for range 2 {
			if err := s.Close(t.Context()); !errors.Is(err, transport.ErrStorage) {
				t.Errorf("Close: %v", err)
			}
		}
		other := w.source()
		time.Sleep(2 * time.Hour)
		if _, err := other.Token(t.Context()); err == nil {
			t.Error("another process could spend the refresh token that is spent")
		}
		store.heal()
		time.Sleep(2 * time.Second)
		if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
			t.Error("it is not saved")
		}
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("Close after the store has recovered: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := other.Token(t.Context()); err != nil {
			t.Errorf("another process: %v", err)
		}
		if c := w.srv.Counts(); c.Reuses != 0 {
			t.Errorf("%d reuses", c.Reuses)
		}
	})
}

// A process that ends while the store is restarted keeps the login: until their deadline
// Flush and Close wait for what cannot be saved at once.
func TestFlushAndCloseWaitForTheStore(t *testing.T) {
	for name, call := range map[string]func(*transport.Source, context.Context) error{"Flush": (*transport.Source).Flush, "Close": (*transport.Source).Close} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, s, store := unsaved(t, oauthtest.StrictFamily)
				for _, heals := range []bool{false, true} {
					if heals {
						time.AfterFunc(5*time.Second, store.heal)
					}
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					begun := time.Now()
					err := call(s, ctx)
					took := time.Since(begun)
					if !heals && (!errors.Is(err, transport.ErrStorage) || took != 10*time.Second) || heals && (err != nil || took > 7*time.Second) {
						t.Errorf("the store is well again: %t; after %v: %v", heals, took, err)
					}
				}
				if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
					t.Error("it is not saved")
				}
			})
		})
	}
}

// A store that hangs is given up in time, and the caller gets its token.
func TestASaveThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &hanging{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.from.Store(store.n.Load() + 2)
		begun := time.Now()
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < transport.SaveTimeout || took > transport.LongestWait {
			t.Errorf("the caller waited for %v", took)
		}
		if err := s.Close(t.Context()); !errors.Is(err, transport.ErrStorage) {
			t.Errorf("Close: %v", err)
		}
		synctest.Wait()
		store.from.Store(0)
		time.Sleep(2 * transport.SaveTimeout) // until the saver has succeeded
	})
}

// A hanging store does not answer from some save on.
type hanging struct {
	*tokencache.Memory
	n, from atomic.Int32
}

func (s *hanging) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if n, from := s.n.Add(1), s.from.Load(); from > 0 && n >= from {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return s.Memory.Save(ctx, name, data, old)
}

// A rotation that could not be saved is saved before the next one is made, and the
// lock is kept all the while: another process must not read the refresh token that
// is being spent.
func TestTheLockIsKeptWhenARefreshEndsUnsaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, s, store := unsaved(t, oauthtest.StrictFamily)
		sent := 0
		s.Cfg().Refresher = watchedRefresher{Endpoint: w.endpoint(), before: func(*tokencache.Record) {
			sent++
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if unlock, err := s.Cfg().Cache.Lock(ctx, s.Cfg().Key); err == nil {
				unlock()
				t.Error("the lock is free while a refresh token is being spent")
			}
			if r := w.stored(s); r.Generation != 2 || r.Attempt == nil {
				t.Errorf("generation %d, and the journal says %+v", r.Generation, r.Attempt)
			}
		}}
		time.Sleep(2 * time.Hour)
		store.heal()
		if _, err := s.Token(t.Context()); err != nil || sent != 1 {
			t.Errorf("%d requests, %v", sent, err)
		}
		wantSettled(t, w, s, transport.StateFresh)
	})
}
