package transport_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A troubled store works until it is told to fail.
type troubled struct {
	*tokencache.Memory
	trouble atomic.Pointer[func(op string, n int32) error]
	n       atomic.Int32 // saves
}

// expiredOver returns a Source of ann, whose token has expired, over a store that can be
// troubled.
func expiredOver(t *testing.T, policy oauthtest.Policy) (w *world, store *troubled, s *transport.Source) {
	t.Helper()
	w, store = newWorld(t, oauthtest.Config{Policy: policy}), &troubled{Memory: new(tokencache.Memory)}
	w.store = store
	s = w.source()
	w.login(s, "ann")
	time.Sleep(2 * time.Hour)
	return w, store, s
}

// fail sets what fails from now on; n is the number of the save.
func (s *troubled) fail(f func(op string, n int32) error) { s.trouble.Store(&f) }

// failAfterJournal lets all saves fail but the next one, which is the note that a refresh
// token is about to be spent.
func (s *troubled) failAfterJournal(err error) {
	journal := s.n.Load() + 1
	s.fail(func(op string, n int32) error {
		if op == "save" && n > journal {
			return err
		}
		return nil
	})
}

func (s *troubled) heal() { s.trouble.Store(nil) }

func (s *troubled) check(op string, n int32) error {
	if f := s.trouble.Load(); f != nil {
		return (*f)(op, n)
	}
	return nil
}

func (s *troubled) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if err := s.check("save", s.n.Add(1)); err != nil {
		return "", err
	}
	return s.Memory.Save(ctx, name, data, old)
}

func (s *troubled) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	if err := s.check("load", s.n.Load()); err != nil {
		return nil, "", err
	}
	return s.Memory.Load(ctx, name)
}

// Rotated, but the disk is full: the client works on, says so, keeps others from
// the spent token, saves as soon as it can, and Flush tells the truth.
func TestUnsaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s, peer := w.source(), w.source(func(c *transport.SourceConfig) { c.Timeout = 5 * time.Second })
		w.login(s, "ann")
		c := w.client(s)
		if _, err := peer.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)

		full := fmt.Errorf("no space left: %w", tokencache.ErrUnavailable)
		store.failAfterJournal(full)
		for range 3 { // also through further rotations
			if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
				t.Fatalf("status %d", status)
			}
			err := s.Flush(t.Context())
			if !errors.Is(err, transport.ErrStorage) || !errors.Is(err, tokencache.ErrUnavailable) {
				t.Fatalf("Flush: %v", err)
			}
			if st, _ := s.Status(t.Context()); st.State != transport.StateUnsaved || st.Err == nil {
				t.Fatalf("status %+v", st)
			}
			if _, err := peer.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
				t.Fatalf("another process, which could only spend a spent token: %v", err)
			}
			time.Sleep(2 * time.Hour)
		}
		w.wantCounts(3, 0)
		if n := w.seen(transport.EventUnsaved); n != 1 {
			t.Errorf("said %d times that it is unsaved", n)
		}

		store.heal()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := w.seen(transport.EventSaved); n != 1 {
			t.Errorf("said %d times that it is saved", n)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Errorf("Flush: %v", err)
		}
		if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
			t.Error("an old refresh token is stored")
		}
		if _, err := peer.Token(t.Context()); err != nil {
			t.Errorf("the other process: %v", err)
		}
		w.wantCounts(4, 0)
	})
}

// Close gives up when it is told to, says that the login may be lost, and leaves
// neither a goroutine nor the lock behind.
func TestCloseUnsaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, store, s := expiredOver(t, oauthtest.KeepOld)
		store.failAfterJournal(tokencache.ErrUnavailable)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); !errors.Is(err, transport.ErrStorage) {
			t.Errorf("Close: %v", err)
		}
		store.heal()
		if _, err := w.source().Token(t.Context()); err != nil {
			t.Errorf("the next process: %v", err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("a closed Source: %v", err)
		}
	})
}

// An answer that is lost while the last rotation is unsaved: there is no journal to
// tell of it, and yet the refusal that follows is explained.
func TestALostAnswerWhileUnsavedIsExplained(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		defer s.Close(t.Context())
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.failAfterJournal(tokencache.ErrUnavailable)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Status(503, time.Second)))
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrAmbiguous) {
			t.Fatalf("the answer was lost: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("got %v", err)
		}
		w.wantCounts(3, 1)
	})
}

// A rotation was saved although the store said otherwise, and then the provider
// refuses the refresh token: it is presented once, and the refusal is stored.
func TestARefusalWhileUnsaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &deaf{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		defer s.Close(t.Context())
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.from.Store(3) // login, journal, rotation
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		store.from.Store(0)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("got %v", err)
		}
		if r := w.stored(s); r.Tombstone == nil {
			t.Error("the refusal was not stored")
		}
		w.wantCounts(2, 0)
	})
}

// A refusal that could not be stored is stored later: other processes need not be
// refused as well.
func TestARefusalThatCouldNotBeStored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s, peer := w.source(), w.source()
		tokens := w.login(s, "ann")
		w.srv.RevokeFamily(tokens.RefreshToken)
		time.Sleep(2 * time.Hour)
		store.failAfterJournal(tokencache.ErrUnavailable)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Fatalf("got %v", err)
		}
		if r := w.stored(s); r.Tombstone != nil {
			t.Fatal("the store did not fail")
		}
		store.heal()
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("got %v", err)
		}
		if r := w.stored(s); r.Tombstone == nil || r.Tombstone.Code != "invalid_grant" {
			t.Errorf("tombstone %+v", r.Tombstone)
		}
		if _, err := peer.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("the other process: %v", err)
		}
		w.wantCounts(1, 0)
	})
}

// A store that is known to fail is noticed while the refresh token is unspent.
func TestAnUnwritableStoreSpendsNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		op   string
		err  error
	}{
		{"unwritable", "save", tokencache.ErrUnavailable},
		{"locked keyring", "load", tokencache.ErrUnavailable},
		{"wrong key", "load", tokencache.ErrCorrupt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Hour})
				store := &troubled{Memory: new(tokencache.Memory)}
				w.store = store
				s := w.source()
				tokens := w.login(s, "ann")
				store.fail(func(op string, n int32) error {
					if op == tt.op {
						return tt.err
					}
					return nil
				})
				time.Sleep(58 * time.Minute)
				for range 100 { // the token is good, whatever the store does
					if tok, err := s.Token(t.Context()); err != nil || string(tok.AccessToken) != tokens.AccessToken {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
				}
				time.Sleep(time.Hour)
				_, err := s.Token(t.Context())
				e, ok := errors.AsType[*transport.Error](err)
				if !ok || !errors.Is(err, transport.ErrStorage) || !errors.Is(err, tt.err) || errors.Is(err, transport.ErrLoginRequired) || e.RetryAt.IsZero() {
					t.Errorf("got %v", err)
				}
				if tt.op == "load" {
					if err := s.Login(t.Context(), record(w.srv.Login("bob"))); !errors.Is(err, tt.err) {
						t.Errorf("Login replaced what it could not read: %v", err)
					}
				}
				w.wantCounts(0, 0)
				store.heal()
				time.Sleep(10 * time.Second)
				if _, err := s.Token(t.Context()); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
					t.Error("the stored login is not the one it was")
				}
			})
		})
	}
}

// A save whose success was not reported, as over a network: found out, not
// repeated.
func TestASaveWhoseAnswerWasLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &forgetful{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.lose.Store(true)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Errorf("Flush: %v", err)
		}
		if r := w.stored(s); r.Generation != 2 {
			t.Errorf("generation %d", r.Generation)
		}
		if n := w.seen(transport.EventUnsaved); n != 0 {
			t.Error("said that it is unsaved")
		}
	})
}

// A forgetful store saves a record without an Attempt and says that it failed, once.
type forgetful struct {
	*tokencache.Memory
	lose  atomic.Bool
	saves int
}

func (s *forgetful) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	v, err := s.Memory.Save(ctx, name, data, old)
	if s.saves++; s.saves == 3 && s.lose.Load() { // login, journal, rotation
		return "", tokencache.ErrUnavailable
	}
	return v, err
}

// A rotation that could not be saved before Close gave up is older than the one
// that the next process made of the same refresh token, and does not replace it.
func TestALateSaveDoesNotReplaceANewerRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, store, s := expiredOver(t, oauthtest.SecondToLastKills)
		store.failAfterJournal(tokencache.ErrUnavailable)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); !errors.Is(err, transport.ErrStorage) {
			t.Fatalf("Close: %v", err)
		}
		store.heal()
		next := w.source()
		if _, err := next.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("the second Close: %v", err)
		}
		if r := w.stored(s); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
			t.Error("the older rotation is stored")
		}
		time.Sleep(2 * time.Hour)
		if _, err := w.source().Token(t.Context()); err != nil {
			t.Errorf("the login is lost: %v", err)
		}
	})
}

// A deaf store does what it is told, but from one save on nobody hears that.
type deaf struct {
	*tokencache.Memory
	from, saves atomic.Int32
}

func (s *deaf) fails() bool { return s.from.Load() != 0 && s.saves.Load() >= s.from.Load() }

func (s *deaf) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	s.saves.Add(1)
	v, err := s.Memory.Save(ctx, name, data, old)
	if s.fails() {
		return "", tokencache.ErrUnavailable
	}
	return v, err
}

func (s *deaf) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	if s.fails() {
		return nil, "", tokencache.ErrUnavailable
	}
	return s.Memory.Load(ctx, name)
}
