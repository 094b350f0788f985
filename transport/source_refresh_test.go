package transport_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/sleep"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// An answer that came whole and was not understood will be no better the next time: at a
// strict provider the token has been spent, and to present it again at once ends the login.
func TestAWholeAnswerIsNotAskedForAgainAtOnce(t *testing.T) {
	for name, fault := range map[string]oauthtest.Fault{
		"a page":           oauthtest.HTML,
		"JSON":             oauthtest.Answer(200, "application/json", `{"status":"ok"}`),
		"a refused client": oauthtest.Answer(403, "text/plain", "blocked"),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.KeepOld})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				w.srv.Fault("/token", 0, fault)
				_, err := s.Token(t.Context())
				e, ok := errors.AsType[*transport.Error](err)
				if !ok || e.Kind != transport.ErrAmbiguous {
					t.Fatalf("got %v", err)
				}
				w.wantCounts(1, 0)
				// Nor at every call, though somebody goes without a token.
				for range 60 {
					time.Sleep(time.Minute)
					s.Token(t.Context())
				}
				if n := w.srv.Counts().TokenRequests; n > 60 {
					t.Errorf("%d token requests in an hour", n)
				}
			})
		})
	}
}

// A refresh that fails right after a login has made it possible counts: the provider is
// not asked at every call.
func TestAFailureAfterALoginCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		unlock, err := s.Cfg().Cache.Lock(t.Context(), s.Key())
		if err != nil {
			t.Fatal(err)
		}
		r := record(w.srv.Login("ann"))
		r.Expiry = transport.WallNow().Add(-time.Minute)
		go s.Login(t.Context(), r)
		synctest.Wait() // for the lock
		done := make(chan error)
		go func() { _, err := s.Token(t.Context()); done <- err }()
		synctest.Wait() // for the login
		w.srv.Fault("/token", 0, oauthtest.Status(429, 0))
		unlock()
		if err := <-done; !errors.Is(err, transport.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
		for range 10 {
			s.Token(t.Context())
		}
		w.wantCounts(1, 0)
		w.wantEvents(transport.EventLogin, transport.EventLogin, transport.EventRefreshFailed, transport.EventOutage)
	})
}

// A slowStore takes its time to save, and heeds its context.
type slowStore struct {
	*tokencache.Memory
	pause time.Duration
}

func (s slowStore) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if !sleep.For(ctx, s.pause) {
		return "", ctx.Err()
	}
	return s.Memory.Save(ctx, name, data, old)
}

// What a refresh has brought is saved, though the time for the refresh is over.
func TestASaveHasATimeOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 2 * time.Second})
		w.store = slowStore{new(tokencache.Memory), time.Second}
		s := w.source(func(c *transport.SourceConfig) { c.Timeout = 3500 * time.Millisecond })
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantEvents(transport.EventLogin, transport.EventRefreshed)
		if r := w.stored(s); r.Generation != 2 || string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
			t.Error("the new refresh token is not stored")
		}
	})
}

// A notingStore tells whoever waits for its lock, some times, that the entry has changed.
type notingStore struct {
	tokencache.Memory
	notes int
}

func (s *notingStore) LockAt(ctx context.Context, name string, _ tokencache.Version) (func() error, error) {
	if s.notes--; s.notes >= 0 {
		return nil, tokencache.ErrConflict
	}
	return s.Lock(ctx, name)
}

// While a refresh waits for its turn, others may change the entry any number of times in
// a way that brings no token: they leave their notes, and fail.
func TestAWaitOutlastsNotesOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := new(notingStore)
		w.store = store
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		store.notes = 5
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantCounts(1, 0)
	})
}
