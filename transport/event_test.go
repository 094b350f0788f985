package transport

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// watched returns a Source whose events nobody else's are mixed with.
func (w *world) watched() (*world, *Source) {
	own := &world{t: w.t, srv: w.srv, store: w.store, base: w.base}
	return own, own.source()
}

// use asks for a token, and waits until what that has caused is done.
func use(t *testing.T, s *Source, want error) {
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
			use(t, s, ErrLoginRequired)
		}
		e := w.wantEvents(EventLoginRequired)[0]
		if e.Generation != 0 || e.Attempts != 0 || !errors.Is(e.Err, ErrLoginRequired) || e.Key != s.key() {
			t.Errorf("login required: %+v", e)
		}
		w.login(s, "ann")
		use(t, s, nil)
		if e := w.wantEvents(EventLogin)[0]; e.Generation != 1 || !e.Expiry.Equal(w.stored(s).Expiry) || e.Took != 0 || e.Key != s.key() {
			t.Errorf("login: %+v", e)
		}
		for generation := uint64(2); generation < 5; generation++ {
			time.Sleep(57 * time.Minute) // It is stale: refreshed in the background, or while callers wait.
			if generation%2 == 0 {
				time.Sleep(time.Hour)
			}
			use(t, s, nil)
			use(t, s, nil)
			e := w.wantEvents(EventRefreshed)[0]
			if e.Generation != generation || !e.Expiry.Equal(w.stored(s).Expiry) || e.Attempts != 1 || e.Err != nil || e.Key != s.key() {
				t.Errorf("refreshed: %+v", e)
			}
		}
		// A user who logs out knows, and so does a program that goes on.
		for range 2 {
			if err := s.Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
			use(t, s, ErrLoginRequired)
		}
		w.wantEvents(EventLogout)
		w.login(s, "bob")
		if err := s.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantEvents(EventLogin, EventLogout)
	})
}

// What a process is told of what others do.
func TestEventsOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		peer, theirs := w.watched()
		w.login(theirs, "ann")
		peer.wantEvents(EventLogin)
		own, s := w.watched()
		use(t, s, nil)
		own.wantEvents() // What it starts with is no event.

		time.Sleep(2 * time.Hour)
		use(t, theirs, nil)
		peer.wantEvents(EventRefreshed)
		for range 3 {
			use(t, s, nil)
		}
		if e := own.wantEvents(EventAdopted)[0]; e.Generation != 2 || e.Attempts != 0 || !e.Expiry.Equal(w.stored(s).Expiry) {
			t.Errorf("%+v", e)
		}

		if err := theirs.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		peer.wantEvents(EventLogout)
		time.Sleep(2 * time.Hour)
		use(t, s, ErrLoginRequired)
		own.wantEvents(EventLoginRequired)
		w.login(theirs, "bob")
		use(t, s, nil)
		if e := own.wantEvents(EventAdopted)[0]; e.Generation != 1 {
			t.Errorf("%+v", e)
		}

		// The same after a logout of its own.
		if err := s.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		use(t, s, ErrLoginRequired)
		w.login(theirs, "ann")
		use(t, s, nil)
		own.wantEvents(EventLogout, EventAdopted)

		// Who is refused tells the others, and each is told once.
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		use(t, s, ErrLoginRequired)
		use(t, theirs, ErrLoginRequired)
		if e := own.wantEvents(EventLoginRequired)[0]; e.Attempts != 1 || e.Generation != 1 {
			t.Errorf("%+v", e)
		}
		if e := peer.wantEvents(EventLogin, EventLogin, EventLoginRequired)[2]; e.Attempts != 0 || e.Generation != 1 {
			t.Errorf("%+v", e)
		}
	})
}

// What an outage is told by, and what ends it.
func TestEventsOfAnOutage(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*testing.T, *world, *Source)
		told []EventType
	}{
		{"the provider is back", func(t *testing.T, w *world, s *Source) {
			use(t, s, nil)
		}, []EventType{EventRefreshed, EventRecovered}},
		{"a peer was luckier", func(t *testing.T, w *world, s *Source) {
			_, theirs := w.watched()
			use(t, theirs, nil)
			use(t, s, nil)
		}, []EventType{EventAdopted, EventRecovered}},
		{"the provider refuses", func(t *testing.T, w *world, s *Source) {
			w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
			use(t, s, ErrLoginRequired)
		}, []EventType{EventLoginRequired}},
		{"a login", func(t *testing.T, w *world, s *Source) {
			w.login(s, "ann")
			use(t, s, nil)
		}, []EventType{EventLogin}},
		{"a logout", func(t *testing.T, w *world, s *Source) {
			if err := s.Forget(t.Context()); err != nil {
				t.Fatal(err)
			}
			use(t, s, ErrLoginRequired)
		}, []EventType{EventLogout}},
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
				told := w.wantEvents(EventLogin, EventRefreshFailed, EventOutage)
				for _, e := range told[1:] {
					if !errors.Is(e.Err, ErrAmbiguous) || e.Generation != 1 || !e.Expiry.Equal(expiry) || e.RetryAt.Before(time.Now().Add(time.Minute)) {
						t.Errorf("%+v", e)
					}
				}
				if told[1].Attempts != 1 || told[2].Attempts != 0 {
					t.Errorf("attempts: %d in all, %d of them of the outage", told[1].Attempts, told[2].Attempts)
				}
				time.Sleep(10 * time.Minute)
				for range 2 {
					use(t, s, ErrAmbiguous)
				}
				w.wantEvents(EventRefreshFailed)
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
			use(t, s, ErrLoginRequired)
		}
		w.wantEvents(EventLogin, EventLoginRequired)
		store.fail(func(string, int32) error { return tokencache.ErrUnavailable })
		use(t, s, ErrStorage)
		w.wantEvents(EventRefreshFailed, EventOutage)
		store.heal()
		time.Sleep(time.Minute)
		for range 2 {
			use(t, s, ErrLoginRequired)
		}
		w.wantEvents(EventLoginRequired)
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
		e := w.wantEvents(EventLogin, EventRefreshed)[1]
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
		w.wantEvents(EventLogin, EventLogin)
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
		use(t, theirs, ErrLoginRequired) // and says so in the cache
		store.delay = time.Second
		done := make(chan struct{})
		go func() { use(t, s, nil); close(done) }()
		synctest.Wait() // until it has read that
		store.delay = 0
		w.login(s, "ann")
		<-done
		w.wantEvents(EventLogin, EventLogin)
		if st, err := s.Status(t.Context()); err != nil || st.State != StateFresh {
			t.Errorf("status %+v, %v", st, err)
		}
	})
}
