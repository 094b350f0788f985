package transport_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/gate"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A losing store remembers what was deleted, and can lose what was not, and who has locked
// what.
type losing struct {
	tokencache.Memory
	slow   time.Duration // how long a call takes at most
	only   atomic.Bool   // reads
	saves  atomic.Int32
	mu     sync.Mutex
	traces map[string]bool
	locks  *gate.Gates
}

func (f *losing) pause() {
	if f.slow > 0 {
		time.Sleep(rand.N(f.slow))
	}
}

func (f *losing) Lock(ctx context.Context, name string) (func() error, error) {
	f.pause()
	if f.only.Load() {
		return nil, tokencache.ErrUnavailable
	}
	for {
		f.mu.Lock()
		if f.locks == nil {
			f.locks = new(gate.Gates)
		}
		locks := f.locks
		f.mu.Unlock()
		brief, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
		leave, err := locks.Enter(brief, name)
		cancel()
		if err == nil {
			return func() error { leave(); return nil }, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (f *losing) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	f.pause()
	data, v, err := f.Memory.Load(ctx, name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, tokencache.ErrNotFound) && !f.traces[name] {
		err = tokencache.ErrNoTrace
	}
	return data, v, err
}

func (f *losing) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	f.pause()
	if f.only.Load() {
		return "", tokencache.ErrUnavailable
	}
	f.saves.Add(1)
	v, err := f.Memory.Save(ctx, name, data, old)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && old == "" {
		delete(f.traces, name)
	}
	return v, err
}

func (f *losing) Delete(ctx context.Context, name string, old tokencache.Version) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.Memory.Delete(ctx, name, old); err != nil {
		return err
	}
	if f.traces == nil {
		f.traces = map[string]bool{}
	}
	f.traces[name] = true
	return nil
}

// flush loses everything.
func (f *losing) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.List(context.Background()) {
		if _, v, err := f.Memory.Load(context.Background(), name); err == nil {
			f.Memory.Delete(context.Background(), name, v)
		}
	}
	f.traces, f.locks = nil, nil
}

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
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := new(losing)
		w.store = store
		ctx, cancel := context.WithCancel(t.Context())
		defer time.Sleep(time.Minute) // until all has ended
		defer cancel()
		var sources []*transport.Source
		for range 3 {
			p, _ := w.pool(10)
			go p.KeepFresh(ctx)
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

// Whatever a store that loses things loses, and whenever, no login ends and no refresh
// token is presented twice, as long as KeepFresh runs.
func TestLossesEndNoLogin(t *testing.T) {
	for seed := range uint64(10) {
		slow := seed%2 == 1     // provider and store
		readOnly := seed%3 == 1 // for some seconds before it is empty, as a replica that is promoted
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0))
				cfg := oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 2 * time.Minute}
				store := new(losing)
				if slow {
					cfg.Latency, cfg.AccessTTL = 2*time.Second, 20*time.Second
					store.slow = 20 * time.Millisecond
				}
				w := newWorld(t, cfg)
				w.store = store
				ctx, cancel := context.WithCancel(t.Context())
				defer time.Sleep(time.Minute) // until all has ended
				defer cancel()
				var pools []*transport.Pool
				for i := range 4 {
					p, _ := w.pool(100, func(cfg *transport.PoolConfig) { cfg.Source.Logger = cfg.Source.Logger.With("pool", i) })
					go p.KeepFresh(ctx)
					pools = append(pools, p)
				}
				var users []string
				for i := range 10 {
					users = append(users, fmt.Sprint("user", i))
					w.login(pools[0].Source(users[i]), users[i])
				}
				for _, p := range pools { // What a process has never held it cannot know of.
					for _, user := range users {
						if _, err := p.Source(user).Token(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
				}
				for range 40 {
					for range 20 {
						s := pools[random.IntN(4)].Source(users[random.IntN(10)])
						if token, err := s.Token(t.Context()); err != nil {
							if !readOnly || errors.Is(err, transport.ErrLoginRequired) {
								t.Fatal(err)
							}
						} else if random.IntN(20) == 0 {
							s.Reject(t.Context(), token)
						}
						time.Sleep(time.Duration(random.Int64N(int64(time.Second))))
					}
					if readOnly {
						store.only.Store(true)
						time.Sleep(3 * time.Second)
						store.only.Store(false)
					}
					store.flush()
					t.Log(time.Now().Format("05.000"), "flush")
				}
				if n := w.srv.Counts().Reuses; n != 0 || w.seen(transport.EventLoginRequired) > 0 {
					t.Errorf("%d reuses, %d times login required", n, w.seen(transport.EventLoginRequired))
				}
			})
		})
	}
}

// A process that could not save what the provider has answered, and then finds the store
// empty, has lost the lock that it keeps for that. The others wait for what it has, however
// long the store was read-only, and for what it spends meanwhile.
func TestWhatIsUnsavedOutlivesALoss(t *testing.T) {
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

// While the provider takes its time with a refresh token whose login and lock were lost, the
// process that has sent it says so once a second, and others neither spend it nor look without
// a pause.
func TestALossCausesNoStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 9 * time.Second})
		store := new(losing)
		w.store = store
		ctx, cancel := context.WithCancel(t.Context())
		defer time.Sleep(time.Minute) // until all has ended
		defer cancel()
		var pools []*transport.Pool
		for range 3 {
			p, _ := w.pool(100)
			go p.KeepFresh(ctx)
			pools = append(pools, p)
		}
		for _, user := range []string{"bob", "ann"} {
			w.login(pools[0].Source(user), user)
			for _, p := range pools {
				if _, err := p.Source(user).Token(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(20 * time.Minute)
		}
		old, _ := pools[0].Source("ann").Token(t.Context())
		go pools[0].Source("ann").Reject(t.Context(), old)
		time.Sleep(time.Second)
		store.flush()
		saves := store.saves.Load()
		go pools[1].Source("ann").Reject(t.Context(), old)
		time.Sleep(8 * time.Second)
		if n := store.saves.Load() - saves; n > 12 {
			t.Errorf("%d saves in 8 s", n)
		}
		time.Sleep(time.Minute)
		w.wantCounts(1, 0)
	})
}

// A replica that has never held a login tells nobody to log in while the store is losing
// logins and another replica may put this one back; but somebody who has none learns that at
// once when nothing is lost, and soon when something is.
func TestALoginUnknownHereMayReturn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log strings.Builder
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := new(losing)
		w.store = store
		ctx, cancel := context.WithCancel(t.Context())
		defer time.Sleep(time.Minute) // until all has ended
		defer cancel()
		var pools []*transport.Pool
		for range 2 {
			p, _ := w.pool(100, func(cfg *transport.PoolConfig) { cfg.Source.Logger = logger })
			go p.KeepFresh(ctx)
			pools = append(pools, p)
		}
		users := w.accounts(pools[0], 20)
		for _, user := range users[10:] {
			if _, err := pools[1].Source(user).Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ask := func(user string) (time.Duration, error) {
			begun := time.Now()
			_, err := pools[1].Source(user).Token(t.Context())
			return time.Since(begun), err
		}
		if took, err := ask("nobody"); !errors.Is(err, transport.ErrLoginRequired) || took > 0 {
			t.Errorf("nothing was lost: %v after %v", err, took)
		}
		store.flush()
		var wg sync.WaitGroup
		for _, user := range users[:10] {
			if st, err := pools[1].Source(user).Status(t.Context()); err == nil && st.State == transport.StateEmpty {
				t.Error("Status: not logged in")
			}
			wg.Go(func() {
				if took, err := ask(user); err != nil || took > 5*time.Second {
					t.Errorf("%v after %v", err, took)
				}
			})
		}
		wg.Go(func() {
			// Whether a stranger is one can be told when the loss is over.
			if took, err := ask("nobody else"); !errors.Is(err, transport.ErrStorage) || took > 6*time.Second {
				t.Errorf("after a loss: %v after %v", err, took)
			}
			time.Sleep(15 * time.Second)
			if took, err := ask("nobody else"); !errors.Is(err, transport.ErrLoginRequired) || took > 0 {
				t.Errorf("after the loss: %v after %v", err, took)
			}
		})
		wg.Wait()
		if n := w.srv.Counts().Reuses; n != 0 {
			t.Errorf("%d reuses", n)
		}
		cancel()
		time.Sleep(time.Minute)
		if !strings.Contains(log.String(), "stayauth: restored") {
			t.Errorf("the log tells no person of the loss: %s", log.String())
		}
	})
}

// As long as a store that is empty accepts no writes, as a replica that has followed an empty
// primary, nobody is told to log in: not after the time that others have to put a login back.
func TestAnEmptyReplicaTellsNobodyToLogIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := new(losing)
		w.store = store
		ctx, cancel := context.WithCancel(t.Context())
		defer time.Sleep(time.Minute) // until all has ended
		defer cancel()
		var pools []*transport.Pool
		for range 2 {
			p, _ := w.pool(100)
			go p.KeepFresh(ctx)
			pools = append(pools, p)
		}
		users := w.accounts(pools[0], 20)
		for _, user := range users[10:] {
			if _, err := pools[1].Source(user).Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		store.flush()
		store.only.Store(true)
		var wg sync.WaitGroup
		for _, user := range users[:10] {
			wg.Go(func() {
				for begun := time.Now(); time.Since(begun) < 30*time.Second; time.Sleep(time.Second) {
					if _, err := pools[1].Source(user).Token(t.Context()); !errors.Is(err, transport.ErrStorage) {
						t.Errorf("after %v: %v", time.Since(begun), err)
					}
				}
			})
		}
		wg.Wait()
		store.only.Store(false)
		time.Sleep(20 * time.Second)
		for _, user := range users[:10] {
			if _, err := pools[1].Source(user).Token(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if n := w.srv.Counts().Reuses; n != 0 {
			t.Errorf("%d reuses", n)
		}
	})
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
				if names := slices.Collect(maps.Keys(maps.Collect(store.List(t.Context())))); len(names) > 0 {
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

// A login that was replaced by another before the store lost both does not come back in
// the place of that, whoever puts what he has back first.
func TestTheLatestLoginIsPutBack(t *testing.T) {
	for _, keepFresh := range []bool{true} {
		t.Run(fmt.Sprint("KeepFresh ", keepFresh), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				store := new(losing)
				w.store = store
				ctx, cancel := context.WithCancel(t.Context())
				defer time.Sleep(time.Minute) // until all has ended
				defer cancel()
				var sources []*transport.Source
				for range 2 {
					p, _ := w.pool(10)
					if keepFresh {
						go p.KeepFresh(ctx)
					}
					sources = append(sources, p.Source("ann"))
				}
				w.login(sources[0], "ann")
				old, err := sources[1].Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(transport.ForcedInterval)
				w.login(sources[0], "bob")
				latest := w.stored(sources[0]).LoginID
				store.flush()
				if _, err := sources[1].Reject(t.Context(), old); err != nil {
					t.Log(err)
				}
				time.Sleep(10 * time.Second)
				if !keepFresh {
					time.Sleep(2 * time.Hour)
				}
				if _, err := sources[0].Token(t.Context()); err != nil {
					t.Error(err)
				}
				if r := w.stored(sources[0]); r.LoginID != latest || r.Tombstone != nil {
					t.Errorf("stored is the login that was replaced")
				}
			})
		})
	}
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
