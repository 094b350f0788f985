package transport_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// watched returns a Source whose events nobody else's are mixed with.
func (w *world) watched() (*world, *transport.Source) {
	own := &world{t: w.t, srv: w.srv, store: w.store, base: w.base}
	return own, own.source()
}

// use asks for a token, and waits until what that has caused is done.
func use(t *testing.T, s *transport.Source, want error) {
	t.Helper()
	if _, err := s.Token(t.Context()); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

// What one process is told of a login that goes well.
func TestEventsOfALife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		for range 3 {
			use(t, s, transport.ErrLoginRequired)
		}
		e := w.wantEvents(transport.EventLoginRequired)[0]
		if e.Generation != 0 || e.Attempts != 0 || !errors.Is(e.Err, transport.ErrLoginRequired) || e.Key != s.Key() {
			t.Errorf("login required: %+v", e)
		}
		w.login(s, "ann")
		use(t, s, nil)
		if e := w.wantEvents(transport.EventLogin)[0]; e.Generation != 1 || !e.Expiry.Equal(w.stored(s).Expiry) || e.Took != 0 || e.Key != s.Key() {
			t.Errorf("login: %+v", e)
		}
		for generation := uint64(2); generation < 5; generation++ {
			time.Sleep(57 * time.Minute) // It is stale: refreshed in the background, or while callers wait.
			if generation%2 == 0 {
				time.Sleep(time.Hour)
			}
			use(t, s, nil)
			use(t, s, nil)
			e := w.wantEvents(transport.EventRefreshed)[0]
			if e.Generation != generation || !e.Expiry.Equal(w.stored(s).Expiry) || e.Attempts != 1 || e.Err != nil || e.Key != s.Key() {
				t.Errorf("refreshed: %+v", e)
			}
		}
		// A user who logs out knows, and so does a program that goes on.
		for range 2 {
			if err := s.Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
			use(t, s, transport.ErrLoginRequired)
		}
		w.wantEvents(transport.EventLogout)
		w.login(s, "bob")
		if err := s.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantEvents(transport.EventLogin, transport.EventLogout)
	})
}

// What a process is told of what others do.
func TestEventsOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		peer, theirs := w.watched()
		w.login(theirs, "ann")
		peer.wantEvents(transport.EventLogin)
		own, s := w.watched()
		use(t, s, nil)
		own.wantEvents() // What it starts with is no event.

		time.Sleep(2 * time.Hour)
		use(t, theirs, nil)
		peer.wantEvents(transport.EventRefreshed)
		for range 3 {
			use(t, s, nil)
		}
		if e := own.wantEvents(transport.EventAdopted)[0]; e.Generation != 2 || e.Attempts != 0 || !e.Expiry.Equal(w.stored(s).Expiry) {
			t.Errorf("%+v", e)
		}

		if err := theirs.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		peer.wantEvents(transport.EventLogout)
		time.Sleep(2 * time.Hour)
		use(t, s, transport.ErrLoginRequired)
		own.wantEvents(transport.EventLoginRequired)
		w.login(theirs, "bob")
		use(t, s, nil)
		if e := own.wantEvents(transport.EventAdopted)[0]; e.Generation != 1 {
			t.Errorf("%+v", e)
		}

		// The same after a logout of its own.
		if err := s.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		use(t, s, transport.ErrLoginRequired)
		w.login(theirs, "ann")
		use(t, s, nil)
		own.wantEvents(transport.EventLogout, transport.EventAdopted)

		// Who is refused tells the others, and each is told once.
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		use(t, s, transport.ErrLoginRequired)
		use(t, theirs, transport.ErrLoginRequired)
		if e := own.wantEvents(transport.EventLoginRequired)[0]; e.Attempts != 1 || e.Generation != 1 {
			t.Errorf("%+v", e)
		}
		if e := peer.wantEvents(transport.EventLogin, transport.EventLogin, transport.EventLoginRequired)[2]; e.Attempts != 0 || e.Generation != 1 {
			t.Errorf("%+v", e)
		}
	})
}

// What an outage is told by, and what ends it.
func TestEventsOfAnOutage(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*testing.T, *world, *transport.Source)
		told []transport.EventType
	}{
		{"the provider is back", func(t *testing.T, w *world, s *transport.Source) {
			use(t, s, nil)
		}, []transport.EventType{transport.EventRefreshed, transport.EventRecovered}},
		{"a peer was luckier", func(t *testing.T, w *world, s *transport.Source) {
			_, theirs := w.watched()
			use(t, theirs, nil)
			use(t, s, nil)
		}, []transport.EventType{transport.EventAdopted, transport.EventRecovered}},
		{"the provider refuses", func(t *testing.T, w *world, s *transport.Source) {
			w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
			use(t, s, transport.ErrLoginRequired)
		}, []transport.EventType{transport.EventLoginRequired}},
		{"a login", func(t *testing.T, w *world, s *transport.Source) {
			w.login(s, "ann")
			use(t, s, nil)
		}, []transport.EventType{transport.EventLogin}},
		{"a logout", func(t *testing.T, w *world, s *transport.Source) {
			if err := s.Forget(t.Context()); err != nil {
				t.Fatal(err)
			}
			use(t, s, transport.ErrLoginRequired)
		}, []transport.EventType{transport.EventLogout}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				expiry := w.stored(s).Expiry
				time.Sleep(58 * time.Minute)
				w.srv.Fault("/token", 0, oauthtest.Status(503, time.Minute))
				use(t, s, nil) // The token is still good.
				told := w.wantEvents(transport.EventLogin, transport.EventRefreshFailed, transport.EventOutage)
				for _, e := range told[1:] {
					if !errors.Is(e.Err, transport.ErrAmbiguous) || e.Generation != 1 || !e.Expiry.Equal(expiry) || e.RetryAt.Before(time.Now().Add(time.Minute)) {
						t.Errorf("%+v", e)
					}
				}
				if told[1].Attempts != 1 || told[2].Attempts != 0 {
					t.Errorf("attempts: %d in all, %d of them of the outage", told[1].Attempts, told[2].Attempts)
				}
				time.Sleep(10 * time.Minute)
				for range 2 {
					use(t, s, transport.ErrAmbiguous)
				}
				w.wantEvents(transport.EventRefreshFailed)
				w.srv.Heal()
				time.Sleep(10 * time.Minute)
				tt.end(t, w, s)
				w.wantEvents(tt.told...)
			})
		})
	}
}

// A login that is over, and a cache that cannot be read: when it can, the login is
// still over, and that is told, as it is how the outage ends.
func TestEventsOfAnOutageOfADeadLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		for range 2 {
			use(t, s, transport.ErrLoginRequired)
		}
		w.wantEvents(transport.EventLogin, transport.EventLoginRequired)
		store.fail(func(string, int32) error { return tokencache.ErrUnavailable })
		use(t, s, transport.ErrStorage)
		w.wantEvents(transport.EventRefreshFailed, transport.EventOutage)
		store.heal()
		time.Sleep(time.Minute)
		for range 2 {
			use(t, s, transport.ErrLoginRequired)
		}
		w.wantEvents(transport.EventLoginRequired)
	})
}

// The requests of one attempt are counted, and its time is that of all of them.
func TestEventOfARefreshWithRetries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.KeepOld})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Drop)
		begun := time.Now()
		use(t, s, nil)
		e := w.wantEvents(transport.EventLogin, transport.EventRefreshed)[1]
		if e.Attempts != 2 || e.Took != e.At.Sub(begun) || e.Took == 0 {
			t.Errorf("%+v after %v", e, e.At.Sub(begun))
		}
	})
}

// A login while this process is reading the cache is its own, and not adopted.
func TestOwnLoginIsNotAdopted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &slow{&troubled{Memory: new(tokencache.Memory)}, 0}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.delay = time.Second
		done := make(chan struct{})
		go func() { use(t, s, nil); close(done) }()
		synctest.Wait() // until it has read
		store.delay = 0
		w.login(s, "ann")
		<-done
		w.wantEvents(transport.EventLogin, transport.EventLogin)
		w.wantCounts(0, 0)
	})
}

// A failure that is told after a login has ended it changes nothing.
func TestAFailureOfThePast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &slow{&troubled{Memory: new(tokencache.Memory)}, 0}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		_, theirs := w.watched()
		use(t, theirs, transport.ErrLoginRequired) // and says so in the cache
		store.delay = time.Second
		done := make(chan struct{})
		go func() { use(t, s, nil); close(done) }()
		synctest.Wait() // until it has read that
		store.delay = 0
		w.login(s, "ann")
		<-done
		w.wantEvents(transport.EventLogin, transport.EventLogin)
		if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateFresh {
			t.Errorf("status %+v, %v", st, err)
		}
	})
}

// An intrusion is a Refresher during whose request somebody writes without the lock.
type intrusion struct {
	transport.Refresher
	write func()
}

func (r intrusion) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	answer, err := r.Refresher.Refresh(ctx, current)
	r.write()
	return answer, err
}

// A refresh whose answer is not stored, because there is a newer login, has adopted that.
func TestEventOfARefreshThatWasOvertaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source(func(cfg *transport.SourceConfig) {
			cfg.Refresher = intrusion{cfg.Refresher, func() {
				cache := w.cache()
				rec, version, err := cache.Load(t.Context(), tokencache.Key{Issuer: cfg.Key.Issuer, ClientID: w.srv.ClientID(), Account: "ann"})
				if err != nil {
					t.Fatal(err)
				}
				other := record(w.srv.Login("ann"))
				other.Key, other.LoginID, other.Generation, other.AuthorizedAt = rec.Key, "other", 1, transport.WallNow()
				if _, err := cache.Save(t.Context(), rec.Key, other, version); err != nil {
					t.Fatal(err)
				}
			}}
			cfg.Key.Account = "ann"
			cfg.Key.Issuer = cfg.Refresher.Identity().Key.Issuer
		})
		w.login(s, "ann")
		w.wantEvents(transport.EventLogin)
		time.Sleep(2 * time.Hour)
		use(t, s, nil)
		w.wantEvents(transport.EventAdopted)
	})
}
