package transport_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A placedStore is a Memory that knows its place.
type placedStore struct {
	tokencache.Memory
	place string
}

func (s *placedStore) Place(context.Context) (id, name string, err error) { return s.place, "", nil }

// copyTo returns a copy of s, as a backup or a clone is, in another place.
func (s *placedStore) copyTo(t *testing.T, place string) *placedStore {
	t.Helper()
	clone := &placedStore{place: place}
	for name := range s.List(t.Context(), "") {
		data, _, err := s.Load(t.Context(), name)
		if err == nil {
			_, err = clone.Save(t.Context(), name, data, "")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return clone
}

// rotate renews the login n times.
func (w *world) rotate(s *transport.Source, n int) {
	w.t.Helper()
	for range n {
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// backedUp returns a world whose store was restored from a backup that is three rotations old,
// as new processes find it, and the store as it was. The login of bob was not renewed since.
func backedUp(t *testing.T) (w *world, lost *placedStore) {
	w = newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
	lost = &placedStore{place: "production"}
	w.store = lost
	s := w.source(account("ann"))
	w.login(s, "ann")
	w.login(w.source(account("bob")), "bob")
	backup := lost.copyTo(t, "restored")
	w.rotate(s, 3)
	w.store = backup
	w.wantEvents(transport.EventLogin, transport.EventLogin, transport.EventRefreshed, transport.EventRefreshed, transport.EventRefreshed)
	return w, lost
}

func account(name string) func(*transport.SourceConfig) {
	return func(cfg *transport.SourceConfig) { cfg.Key.Account = name }
}

// After a restore the provider is asked nothing, whatever the program does, until a person has
// decided (F7). The log says so once per process.
func TestACopyIsNotSpentBeforeADecision(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, _ := backedUp(t)
		before := w.srv.Counts()
		var log bytes.Buffer
		pool, _ := w.pool(10, func(cfg *transport.PoolConfig) { cfg.Source.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		for _, user := range []string{"ann", "bob", "ann"} {
			_, err := pool.Source(user).Token(t.Context())
			if !errors.Is(err, tokencache.ErrCopy) || !errors.Is(err, transport.ErrStorage) || errors.Is(err, transport.ErrLoginRequired) || !strings.Contains(err.Error(), "Adopt") {
				t.Errorf("Token of %s: %v", user, err)
			}
			st, err := pool.Source(user).Status(t.Context())
			if err != nil || st.State != transport.StateOutage || !errors.Is(st.Err, tokencache.ErrCopy) {
				t.Errorf("Status of %s: %+v, %v", user, st, err)
			}
			if _, err := pool.Source(user).Reject(t.Context(), transport.Token{AccessToken: "x"}); !errors.Is(err, tokencache.ErrCopy) {
				t.Errorf("Reject for %s: %v", user, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		go pool.KeepFresh(ctx)
		time.Sleep(time.Hour)
		cancel()
		time.Sleep(time.Minute)
		if after := w.srv.Counts(); after != before {
			t.Errorf("requests to the provider: %+v before, %+v after", before, after)
		}
		if n := strings.Count(log.String(), "the store is a copy of another one"); n != 1 {
			t.Errorf("the log says it %d times:\n%s", n, log.String())
		}
	})
}

// A token that is still good is of use in a copy too.
func TestACopyServesItsTokenWhileItIsGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &placedStore{place: "production"}
		w.store = store
		w.login(w.source(), "ann")
		w.store = store.copyTo(t, "staging")
		s := w.source()
		for range 58 { // of 60, and it is to be refreshed from the 55th on
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		s.Flush(t.Context())
		w.wantCounts(0, 0)
	})
}

// A program that acts for itself has nothing that could be spent twice: in a copy it goes on
// without a decision, and its token is at home there from then on.
func TestAMachineGoesOnInACopy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &placedStore{place: "production"}
		w.store = store
		machine := func(cfg *transport.SourceConfig) { cfg.Refresher = w.endpoint().ClientCredentials() }
		original := w.source(machine)
		if _, err := original.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.store = store.copyTo(t, "staging")
		copied := w.source(machine)
		time.Sleep(2 * time.Hour)
		if st, err := copied.Status(t.Context()); err != nil || st.State != transport.StateExpired {
			t.Errorf("%v, %v", st, err)
		}
		tok, err := copied.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := copied.Reject(t.Context(), tok); err != nil {
			t.Error(err)
		}
		w.rotate(original, 1)
		for rec, err := range w.cache().List(t.Context()) {
			if err != nil || rec.IsCopy() {
				t.Errorf("%v, %v", rec, err)
			}
		}
		w.wantCounts(4, 0)
	})
}

// Once adopted, a login goes on by itself, in processes that have been refused before too. One
// that was renewed since the backup is lost at a strict provider, and the error says why.
func TestAnAdoptedLoginGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, _ := backedUp(t)
		ann, bob := w.source(account("ann")), w.source(account("bob"))
		for _, s := range []*transport.Source{ann, bob} {
			if _, err := s.Token(t.Context()); !errors.Is(err, tokencache.ErrCopy) {
				t.Fatal(err)
			}
		}
		if n, err := w.cache().Adopt(t.Context()); n != 2 || err != nil {
			t.Fatalf("adopted %d, %v", n, err)
		}
		time.Sleep(10 * time.Second)
		if _, err := bob.Token(t.Context()); err != nil {
			t.Error(err)
		}
		if r := w.stored(bob); r.Copy != nil || r.Generation != 2 {
			t.Errorf("stored after the refresh: %+v", r.Copy)
		}
		_, err := ann.Token(t.Context())
		e, ok := errors.AsType[*transport.Error](err)
		if !ok || e.Kind != transport.ErrLoginRequired || !e.ReuseSuspected || !strings.Contains(e.Remedy, "adopted at 20") || strings.Contains(e.Remedy, "find out what") {
			t.Errorf("the login that was renewed since the backup: %v", err)
		}
		if st, err := w.source(account("ann")).Status(t.Context()); err != nil || !strings.Contains(st.String(), "backup") {
			t.Errorf("Status: %v, %v", st, err)
		}
		w.login(ann, "ann")
		w.rotate(ann, 1)
	})
}

// What was discarded is logged out here, and lives on where it was copied from.
func TestADiscardedLoginLivesOnElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, production := backedUp(t)
		before := w.srv.Counts()
		s := w.source(account("ann"))
		if _, err := s.Token(t.Context()); !errors.Is(err, tokencache.ErrCopy) {
			t.Fatal(err)
		}
		if n, err := w.cache().Discard(t.Context()); n != 2 || err != nil {
			t.Fatalf("discarded %d, %v", n, err)
		}
		time.Sleep(10 * time.Second)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("after Discard: %v", err)
		}
		if after := w.srv.Counts(); after != before {
			t.Errorf("requests to the provider: %+v before, %+v after", before, after)
		}
		w.store = production
		w.rotate(w.source(account("ann")), 3)
	})
}

// A new login and a logout need no decision, and the logout leaves the other store's tokens
// alone.
func TestLoginAndLogoutInACopy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, production := backedUp(t)
		revoking := func(c *transport.SourceConfig) {
			c.Refresher.(*endpoint.Endpoint).RevocationURL = w.srv.URL() + "/revoke"
		}
		ann, bob := w.source(account("ann"), revoking), w.source(account("bob"), revoking)
		if err := bob.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		e := w.wantEvents(transport.EventLogout)[0]
		if !errors.Is(e.Err, tokencache.ErrCopy) {
			t.Errorf("Err of logout: %v", e.Err)
		}
		if _, err := bob.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("after Logout: %v", err)
		}
		w.login(ann, "ann")
		w.rotate(ann, 2)
		if err := ann.Logout(t.Context()); err != nil || w.srv.Valid(w.srv.Current("ann").RefreshToken) {
			t.Errorf("the new login could not be ended: %v", err)
		}
		w.store = production
		w.rotate(w.source(account("bob")), 1)
		if c := w.srv.Counts(); c.Reuses != 0 {
			t.Errorf("%d reuses", c.Reuses)
		}
	})
}

// A refresh that was interrupted in production when the copy was made is not made up for in the
// copy.
func TestAnInterruptedRefreshIsNotMadeUpForInACopy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		production := &placedStore{place: "production"}
		w.store = production
		s := w.source()
		w.login(s, "ann")
		r, v, err := w.cache().Load(t.Context(), s.Key())
		if err != nil {
			t.Fatal(err)
		}
		r.Attempt = &tokencache.Attempt{At: transport.WallNow(), PID: 1}
		if _, err := w.cache().Save(t.Context(), s.Key(), r, v); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		w.store = production.copyTo(t, "staging")
		if _, err := w.source().Token(t.Context()); !errors.Is(err, tokencache.ErrCopy) {
			t.Errorf("got %v", err)
		}
		w.wantCounts(0, 0)
	})
}

// A process that has lived through a restore and knows a newer state of a login goes on with
// that, and the others with it.
func TestAProcessThatLivedThroughARestoreKnowsBetter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &placedStore{place: "production"}
		w.store = store
		s, idle := w.source(account("ann")), w.source(account("bob"))
		w.login(s, "ann")
		w.login(idle, "bob")
		backup := store.copyTo(t, "restored")
		w.rotate(s, 3)
		store.place = "restored" // by another name, under the running processes
		for _, name := range []string{"ann", "bob"} {
			key := s.Key()
			key.Account = name
			_, now, err := store.Load(t.Context(), key.Name())
			if err != nil {
				t.Fatal(err)
			}
			data, _, err := backup.Load(t.Context(), key.Name())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Save(t.Context(), key.Name(), data, now); err != nil {
				t.Fatal(err)
			}
		}
		w.rotate(s, 2)
		w.rotate(w.source(account("ann")), 1)
		if _, err := idle.Token(t.Context()); !errors.Is(err, tokencache.ErrCopy) {
			t.Errorf("one that knows nothing newer: %v", err)
		}
		w.wantCounts(6, 0)
		synctest.Wait()
	})
}

// Processes of the version before this one, which know nothing of places, run beside the others
// during a deployment. Nobody raises an alarm.
func TestEarlierVersionsRaiseNoAlarm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &placedStore{place: "production"}
		// An earlier version keeps the place as a member that it does not know, and a
		// login of its own has none.
		earlier := func() *transport.Source { w.store = &store.Memory; return w.source() }
		now := func() *transport.Source { w.store = store; return w.source() }
		w.login(earlier(), "ann")
		for range 3 {
			w.rotate(now(), 1)
			w.rotate(earlier(), 1)
		}
		w.login(now(), "ann")
		w.rotate(earlier(), 1)
		w.rotate(now(), 1)
		w.wantCounts(8, 0)
	})
}

// A login that had ended before it was copied is not said to have ended because of that.
func TestALoginThatWasDeadBeforeItWasCopied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &placedStore{place: "production"}
		w.store = store
		s := w.source()
		w.srv.RevokeFamily(w.login(s, "ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Fatal(err)
		}
		w.store = store.copyTo(t, "restored")
		for range 2 {
			_, err := w.source().Token(t.Context())
			if !errors.Is(err, transport.ErrLoginRequired) || strings.Contains(err.Error(), "adopted") {
				t.Errorf("got %v", err)
			}
			if _, err := w.cache().Adopt(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.wantCounts(1, 0)
	})
}
