package transport_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A login that the store has lost, and nobody has ended, goes on where it is in memory.
func TestALoginThatTheStoreHasLostIsPutBack(t *testing.T) {
	for _, tt := range []struct {
		name     string
		flush    func(w *world, s *transport.Source, flush func())
		tokens   int // requests
		restored int // before the refresh token was spent
	}{
		{"stale", func(w *world, s *transport.Source, flush func()) { flush(); time.Sleep(57 * time.Minute) }, 1, 1},
		{"expired", func(w *world, s *transport.Source, flush func()) { flush(); time.Sleep(2 * time.Hour) }, 1, 1},
		{"twice", func(w *world, s *transport.Source, flush func()) {
			flush()
			time.Sleep(2 * time.Hour)
			s.Token(context.Background())
			flush()
			time.Sleep(2 * time.Hour)
		}, 2, 2},
		{"while the provider answers", func(w *world, s *transport.Source, flush func()) {
			time.Sleep(2 * time.Hour)
			time.AfterFunc(time.Second, flush)
		}, 1, 0},
		{"while the journal is written", func(w *world, s *transport.Source, flush func()) {
			time.Sleep(2 * time.Hour)
			w.store.(*interrupting).save = flush
		}, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 2 * time.Second})
				store := new(interrupting)
				w.store = store
				s := w.source()
				w.login(s, "ann")
				tt.flush(w, s, store.flush)
				for range 2 {
					if st, err := s.Status(t.Context()); err != nil || st.State == transport.StateEmpty {
						t.Errorf("Status: %+v, %v", st, err)
					}
					if _, err := s.Token(t.Context()); err != nil {
						t.Fatal(err)
					}
					s.Flush(t.Context())
				}
				w.wantCounts(tt.tokens, 0)
				if r := w.stored(s); int(r.Generation) != 1+tt.tokens || !w.srv.Valid(string(r.AccessToken)) || tt.restored > 0 && !r.PutBackAt.IsZero() {
					t.Errorf("stored is generation %d, put back at %v", r.Generation, r.PutBackAt)
				}
				synctest.Wait() // until all is told
				if w.seen(transport.EventLoginRequired) > 0 {
					t.Error("somebody was told to log in")
				}
				if n := w.seen(transport.EventRestored); n != tt.restored {
					t.Errorf("%d times restored, want %d", n, tt.restored)
				}
			})
		})
	}
}

// An interrupting store calls save before the next Save.
type interrupting struct {
	losing
	save func()
}

func (f *interrupting) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if save := f.save; save != nil {
		f.save = nil
		save()
	}
	return f.losing.Save(ctx, name, data, old)
}

// A process that holds an old state of a login does not present the refresh token that
// another has spent: that one is there first.
func TestTheNewestStateIsPutBack(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := new(losing)
		w.store = store
		var sources []*transport.Source
		for _, p := range w.keptFresh(3, 10) {
			sources = append(sources, p.Source("ann"))
		}
		w.login(sources[0], "ann")
		for _, s := range sources {
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(54 * time.Minute) // They will be stale in a minute or two.
		refused, _ := sources[1].Token(t.Context())
		if _, err := sources[1].Reject(t.Context(), refused); err != nil {
			t.Fatal(err)
		}
		store.flush()
		time.Sleep(3 * time.Hour)
		for _, s := range sources {
			if _, err := s.Token(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if n := w.srv.Counts().Reuses; n != 0 || w.seen(transport.EventLoginRequired) > 0 {
			t.Errorf("%d reuses, %d times login required", n, w.seen(transport.EventLoginRequired))
		}
	})
}

// A process that could not save what the provider has answered, and then finds the store
// empty, has lost the lock that it keeps for that. The others wait for what it has, however
// long the store was read-only, and for what it spends meanwhile.
func TestWhatIsUnsavedOutlivesALoss(t *testing.T) {
	t.Parallel()
	for readOnly := 5 * time.Second; readOnly < 30*time.Second; readOnly += time.Second {
		t.Run(fmt.Sprint(readOnly), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 2 * time.Second, AccessTTL: 20 * time.Second})
				store := &losing{slow: 20 * time.Millisecond}
				w.store = store
				ctx, cancel := context.WithCancel(t.Context())
				defer time.Sleep(time.Minute) // until all has ended
				defer cancel()
				var pools []*transport.Pool
				for i := range 3 {
					p, _ := w.pool(100, func(cfg *transport.PoolConfig) { cfg.Source.Logger = cfg.Source.Logger.With("pool", i) })
					go p.KeepFresh(ctx)
					pools = append(pools, p)
				}
				for i := range 4 {
					user := fmt.Sprint("user", i)
					w.login(pools[0].Source(user), user)
					for _, p := range pools {
						p.Source(user).Token(t.Context())
						go func() {
							for ctx.Err() == nil {
								brief, stop := context.WithTimeout(ctx, 300*time.Millisecond)
								p.Source(user).Token(brief)
								stop()
								time.Sleep(300 * time.Millisecond)
							}
						}()
					}
					time.Sleep(4 * time.Second)
				}
				store.only.Store(true)
				time.Sleep(readOnly)
				store.flush()
				store.only.Store(false)
				time.Sleep(30 * time.Second)
				if n := w.srv.Counts().Reuses; n != 0 || w.seen(transport.EventLoginRequired) > 0 {
					t.Errorf("%d reuses, %d times login required", n, w.seen(transport.EventLoginRequired))
				}
			})
		})
	}
}

// A logout is a logout, also of a login that the store has lost before.
func TestALogoutIsNotTakenForALoss(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("lost ", lost), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				store := new(losing)
				w.store = store
				revoking := func(cfg *transport.SourceConfig) {
					cfg.Refresher.(*endpoint.Endpoint).RevocationURL = w.srv.URL() + "/revoke"
				}
				s, other := w.source(revoking), w.source()
				tokens := w.login(s, "ann")
				if _, err := other.Token(t.Context()); err != nil {
					t.Fatal(err)
				}
				if lost {
					store.flush()
				}
				if err := s.Logout(t.Context()); err != nil {
					t.Fatal(err)
				}
				if w.srv.Valid(tokens.AccessToken) {
					t.Error("the login was not revoked")
				}
				time.Sleep(2 * time.Hour)
				for _, s := range []*transport.Source{s, other} {
					if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
						t.Errorf("after the logout: %v", err)
					}
				}
				w.wantCounts(0, 0)
				if names := slices.Collect(maps.Keys(maps.Collect(store.List(t.Context(), "")))); len(names) > 0 {
					t.Errorf("the store holds %q", names)
				}
			})
		})
	}
}

// What the store may have forgotten to have been ended is not put back, nor is what the
// provider has refused without its tombstone.
func TestNotEverythingIsPutBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := new(losing)
		w.store = store
		s := w.source()
		w.login(s, "ann")
		store.flush()
		time.Sleep(transport.TraceTime + time.Hour)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) || !strings.Contains(err.Error(), "not in the store any more") {
			t.Errorf("got %v", err)
		}
		w.wantCounts(0, 0)

		w.srv.RevokeFamily(w.login(s, "ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		for range 2 {
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
				t.Errorf("got %v", err)
			}
			store.flush()
			time.Sleep(time.Minute)
		}
		w.wantCounts(1, 0)
	})
}

// A checking store has settings with which it may lose logins.
type checking struct {
	tokencache.Memory
	checks atomic.Int32
}

func (c *checking) Check(context.Context) error {
	c.checks.Add(1)
	return errors.New("maxmemory-policy of the server is allkeys-lru")
}

// That a store is not set up for logins is told once, before the first refresh, however many
// logins there are, and keeps nobody from working.
func TestTheSettingsOfAStoreAreToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		store := new(checking)
		w.store = store
		var log strings.Builder
		p, _ := w.pool(100, func(cfg *transport.PoolConfig) {
			cfg.Source.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		})
		users := w.accounts(p, 5)
		for range 3 {
			time.Sleep(2 * time.Hour)
			for _, user := range users {
				if _, err := p.Source(user).Token(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		synctest.Wait() // until all is told
		if n := strings.Count(log.String(), "allkeys-lru"); n != 1 || store.checks.Load() != 1 {
			t.Errorf("checked %d times, and told %d times: %s", store.checks.Load(), n, log.String())
		}
	})
}
