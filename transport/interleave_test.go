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

// A slow store answers a Load, when told to be slow, a second after it has read.
type slow struct {
	*troubled
	delay time.Duration
}

func (s *slow) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	data, v, err := s.troubled.Load(ctx, name)
	time.Sleep(s.delay)
	return data, v, err
}

// A Source that is just reading the login when it is ended, for the first time or after a logout,
// does not hand it out afterwards.
func TestALookDoesNotUndoALogout(t *testing.T) {
	for _, before := range []bool{false, true} { // This process has logged out before.
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
			store := &slow{&troubled{Memory: new(tokencache.Memory)}, 0}
			w.store = store
			s := w.source()
			if before {
				w.login(s, "ann")
				if err := s.Forget(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			w.login(w.source(), "ann") // in another process
			time.Sleep(time.Minute)
			store.delay = time.Second
			done := make(chan struct{})
			go func() { s.Token(t.Context()); close(done) }()
			synctest.Wait() // until it has read
			store.delay = 0
			if err := s.Forget(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-done
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
				t.Errorf("after Forget, a logout before it %t: %v", before, err)
			}
		})
	}
}

// A caller who has been waiting since before the login gets its token, which need
// not be refreshed.
func TestARefreshThatWaitsForALoginIsNotNeeded(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before bool // there has been a login before
		refuse bool // whose token an API has rejected
	}{{"first login", false, false}, {"expired", true, false}, {"refused", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				store := &slow{&troubled{Memory: new(tokencache.Memory)}, 0}
				w.store = store
				s := w.source()
				var old transport.Token
				if tt.before {
					w.login(s, "ann")
					if old, _ = s.Token(t.Context()); !tt.refuse {
						time.Sleep(2 * time.Hour)
					}
				}
				time.Sleep(time.Minute)
				unlock, err := s.Cfg().Cache.Lock(t.Context(), s.Cfg().Key)
				if err != nil {
					t.Fatal(err)
				}
				login := make(chan error, 1)
				go func() { login <- s.Login(t.Context(), record(w.srv.Login("bob"))) }()
				synctest.Wait() // until it waits for the lock
				token := make(chan error, 1)
				go func() {
					var err error
					if tt.refuse {
						_, err = s.Reject(t.Context(), old)
					} else {
						_, err = s.Token(t.Context())
					}
					token <- err
				}()
				synctest.Wait()
				if err := unlock(); err != nil {
					t.Fatal(err)
				}
				if err := <-login; err != nil {
					t.Fatal(err)
				}
				if err := <-token; err != nil && (tt.before || !errors.Is(err, transport.ErrLoginRequired)) {
					t.Error(err)
				}
				w.wantCounts(0, 0)
				if g := w.stored(s).Generation; g != 1 {
					t.Errorf("generation %d", g)
				}
			})
		})
	}
}

// A caller who looks for another process's token in an outage, while the user logs
// out or in, gets what that has brought.
func TestALookInAnOutageMeetsALogoutOrLogin(t *testing.T) {
	for _, logout := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
			store := &slow{&troubled{Memory: new(tokencache.Memory)}, 0}
			w.store = store
			s := w.source()
			w.login(s, "ann")
			w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
			time.Sleep(2 * time.Hour)
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrAmbiguous) {
				t.Fatal(err)
			}
			store.delay = time.Second / 4
			type result struct {
				tok transport.Token
				err error
			}
			done := make(chan result, 1)
			go func() {
				tok, err := s.Token(t.Context())
				done <- result{tok, err}
			}()
			synctest.Wait() // until it has read
			store.delay = 0
			if logout {
				if err := s.Forget(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				w.login(s, "bob")
			}
			switch r := <-done; {
			case logout && !errors.Is(r.err, transport.ErrLoginRequired) && !errors.Is(r.err, transport.ErrAmbiguous):
				t.Errorf("after a logout: %v, %v", r.tok, r.err)
			case !logout && (r.err != nil || r.tok.AccessToken == ""):
				t.Errorf("after a login: %v, %v", r.tok, r.err)
			}
		})
	}
}

// A caller who looks for another process's token in an outage of the provider, while
// another login finds that it is over, gets an error that can be read (M2).
func TestALookWhileAnotherLoginEndsTheOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &slow{&troubled{Memory: new(tokencache.Memory)}, 0}
		w.store = store
		e := w.endpoint()
		of := func(account string) *transport.Source {
			s := w.source(func(c *transport.SourceConfig) { c.Refresher, c.Key.Account = e, account })
			w.login(s, account)
			return s
		}
		ann, bob := of("ann"), of("bob")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Status(429, time.Minute))
		if _, err := ann.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Millisecond)
		store.delay = time.Second
		done := make(chan error, 1)
		go func() {
			_, err := bob.Token(t.Context())
			done <- err
		}()
		synctest.Wait() // until it has read
		store.delay = 0
		time.Sleep(2 * time.Millisecond)
		if _, err := ann.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, transport.ErrUnavailable) || err.Error() == "" {
			t.Errorf("got %v", err)
		}
		if _, err := bob.Token(t.Context()); err != nil {
			t.Errorf("after the outage: %v", err)
		}
		w.wantCounts(3, 0)
	})
}
