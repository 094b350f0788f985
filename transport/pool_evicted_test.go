package transport_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A tracking store can lose what it has, and knows what it should have.
type tracking struct {
	losing
	whole  sync.Mutex // to look for an entry and note that it is missed are one step, as in a real store
	known  sync.Map   // name -> true
	missed sync.Map   // name -> when a lost entry was first missed
	wanted sync.Map   // name -> when a lost entry was last missed
}

func (f *tracking) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	f.pause()
	f.whole.Lock()
	defer f.whole.Unlock()
	data, v, err := f.look(ctx, name)
	if _, known := f.known.Load(name); known && errors.Is(err, tokencache.ErrNoTrace) {
		f.wanted.Store(name, time.Now())
		since, _ := f.missed.LoadOrStore(name, time.Now())
		err = fmt.Errorf("load: %w", &tokencache.LostError{For: time.Since(since.(time.Time))})
	}
	return data, v, err
}

func (f *tracking) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	v, err := f.losing.Save(ctx, name, data, old)
	f.whole.Lock()
	defer f.whole.Unlock()
	if err == nil {
		f.known.Store(name, true)
		f.missed.Delete(name)
	}
	return v, err
}

func (f *tracking) Delete(ctx context.Context, name string, old tokencache.Version) error {
	err := f.losing.Delete(ctx, name, old)
	f.whole.Lock()
	defer f.whole.Unlock()
	if err == nil {
		f.known.Delete(name)
		f.missed.Delete(name)
	}
	return err
}

func (f *tracking) Wanted(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		f.wanted.Range(func(name, at any) bool {
			return time.Since(at.(time.Time)) > time.Minute || yield(name.(string), nil)
		})
	}
}

// evict loses the login of a Source.
func (f *tracking) evict(t *testing.T, s *transport.Source) {
	t.Helper()
	name := s.Key().Name()
	_, v, err := f.Memory.Load(t.Context(), name)
	if err == nil {
		err = f.Memory.Delete(t.Context(), name, v)
	}
	if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
		t.Fatal(err)
	}
}

func newTracking(t *testing.T) (*world, *tracking) {
	w, store := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily}), new(tracking)
	w.store = store
	return w, store
}

// A store evicts one login after another. A replica that has never held them, and knows of no
// other loss, tells nobody to log in as long as some process that runs KeepFresh has the login,
// be it a Pool or a single Source; and somebody who has none still learns that at once.
func TestAnEvictedLoginIsPutBack(t *testing.T) {
	for _, holder := range []string{"Pool", "Source"} {
		t.Run(holder, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, store := newTracking(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer time.Sleep(time.Minute) // until all has ended
				defer cancel()
				var users []string
				hold := func(user string) (s *transport.Source) {
					s = w.source(func(cfg *transport.SourceConfig) { cfg.Key.Account = user })
					go s.KeepFresh(ctx)
					return s
				}
				if holder == "Pool" {
					p, _ := w.pool(100)
					go p.KeepFresh(ctx)
					hold = p.Source
				}
				for i := range 20 {
					users = append(users, fmt.Sprint("user ", i))
					w.login(hold(users[i]), users[i])
				}
				for _, user := range users {
					time.Sleep(20 * time.Second)
					p, _ := w.pool(100) // one that has just started
					store.evict(t, p.Source(user))
					begun := time.Now()
					if st, err := p.Source(user).Status(t.Context()); err == nil {
						t.Errorf("Status: %v", st)
					}
					if _, err := p.Source(user).Token(t.Context()); err != nil || time.Since(begun) > 5*time.Second {
						t.Errorf("%s: %v after %v", user, err, time.Since(begun))
					}
					begun = time.Now()
					if _, err := p.Source("nobody").Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) || time.Since(begun) > 5*time.Second {
						t.Errorf("nobody: %v after %v", err, time.Since(begun))
					}
				}
				if n := w.srv.Counts().Reuses; n != 0 {
					t.Errorf("%d reuses", n)
				}
			})
		})
	}
}

// Whichever logins a store evicts, and whenever, none ends and no refresh token is presented
// twice, whoever asks: replicas that have it, that are renewing it, or that have just started.
func TestEvictionsEndNoLogin(t *testing.T) {
	t.Parallel()
	for seed := range testkit.Pick[uint64](2, 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0))
				cfg := oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 2 * time.Minute}
				_, store := newTracking(t)
				if seed%2 == 1 {
					cfg.Latency, cfg.AccessTTL = 2*time.Second, 20*time.Second
					store.slow = 20 * time.Millisecond
				}
				w := newWorld(t, cfg)
				w.store = store
				ctx, cancel := context.WithCancel(t.Context())
				defer time.Sleep(time.Minute) // until all has ended
				defer cancel()
				var pools []*transport.Pool
				start := func() *transport.Pool {
					p, _ := w.pool(100, func(cfg *transport.PoolConfig) { cfg.Source.Logger = cfg.Source.Logger.With("pool", len(pools)) })
					go p.KeepFresh(ctx)
					pools = append(pools, p)
					return p
				}
				for range 3 {
					start()
				}
				var users []string
				for i := range 10 {
					users = append(users, fmt.Sprint("user", i))
					w.login(pools[0].Source(users[i]), users[i])
				}
				for range 60 {
					user := users[random.IntN(len(users))]
					store.evict(t, pools[0].Source(user))
					asked := pools[random.IntN(len(pools))]
					if random.IntN(5) == 0 {
						asked = start()
					}
					for range 1 + random.IntN(8) {
						s := asked.Source(user)
						// One that is evicted again and again is not spent for as long.
						if token, err := s.Token(t.Context()); err != nil {
							if !errors.Is(err, transport.ErrUnavailable) && !errors.Is(err, transport.ErrStorage) {
								t.Fatal(err)
							}
						} else if random.IntN(8) == 0 {
							s.Reject(t.Context(), token)
						}
						time.Sleep(time.Duration(random.Int64N(int64(time.Second))))
						user, asked = users[random.IntN(len(users))], pools[random.IntN(len(pools))]
					}
					if _, err := asked.Source("nobody").Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) && !errors.Is(err, transport.ErrStorage) {
						t.Errorf("nobody: %v", err)
					}
				}
				if n := w.srv.Counts().Reuses; n != 0 {
					t.Errorf("%d reuses", n)
				}
			})
		})
	}
}

// A login that was evicted, and that no process has in memory, is waited for, but not for ever;
// and then the user is told why to log in. Somebody who never logged in is told at once.
func TestAnEvictedLoginThatNobodyHas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, store := newTracking(t)
		before, _ := w.pool(10)
		w.login(before.Source("ann"), "ann")
		store.evict(t, before.Source("ann"))
		p, _ := w.pool(10)
		s, begun := p.Source("ann"), time.Now()
		if _, err := p.Source("nobody").Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) || time.Since(begun) > 0 {
			t.Errorf("nobody: %v after %v", err, time.Since(begun))
		}
		for ; time.Since(begun) < 25*time.Second; time.Sleep(time.Second) {
			_, err := s.Token(t.Context())
			if e, ok := errors.AsType[*transport.Error](err); !ok || !errors.Is(err, transport.ErrStorage) || e.RetryAt.IsZero() {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
		}
		time.Sleep(10 * time.Second)
		for range 2 { // also when it is known
			if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) || !strings.Contains(err.Error(), "why the store loses logins") {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
			time.Sleep(time.Minute)
		}
		if st, err := s.Status(t.Context()); err != nil || st.State != transport.StateEmpty {
			t.Errorf("Status: %v, %v", st, err)
		}
		other, _ := w.pool(10)
		begun = time.Now()
		if _, err := other.Source("ann").Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) || time.Since(begun) > 0 {
			t.Errorf("at another process: %v after %v", err, time.Since(begun))
		}
		w.login(s, "ann")
		if _, err := other.Source("ann").Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A logout after the store has lost the login ends it at the provider all the same, if any
// process has it in memory. If none has, the event says that it lives on.
func TestLogoutOfALostLogin(t *testing.T) {
	for _, tt := range []struct {
		name        string
		here, there bool // who has it
		old         bool // it is too old to be put back
		stale       bool // what was put back is older than what this process has
		alive       bool
	}{
		{name: "this process has it", here: true},
		{name: "this process has had it for long", here: true, old: true},
		{name: "another process has it", there: true},
		{name: "another one had an older state", here: true, stale: true},
		{name: "nobody has it", alive: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, store := newTracking(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer time.Sleep(time.Minute) // until all has ended
				defer cancel()
				first, _ := w.pool(10)
				if tt.there {
					go first.KeepFresh(ctx)
				}
				w.login(first.Source("ann"), "ann")
				own := &world{t: w.t, srv: w.srv, store: w.store, base: w.base}
				p, _ := own.pool(10, func(cfg *transport.PoolConfig) {
					cfg.Source.Refresher.(*endpoint.Endpoint).RevocationURL = w.srv.URL() + "/revoke"
				})
				s := p.Source("ann")
				if tt.stale {
					time.Sleep(2 * time.Hour)
				}
				if tt.here {
					if _, err := s.Token(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if tt.old {
					time.Sleep(31 * 24 * time.Hour)
				}
				store.evict(t, s)
				if tt.stale {
					// It takes more than a lost lock to get there.
					rec := first.Source("ann").Cur().Load().Rec()
					if _, err := s.Cfg().Cache.Save(t.Context(), s.Key(), rec, ""); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Logout(t.Context()); err != nil {
					t.Fatal(err)
				}
				if alive := w.srv.Valid(w.srv.Current("ann").RefreshToken); alive != tt.alive {
					t.Errorf("the refresh token is alive: %v", alive)
				}
				time.Sleep(time.Second)
				own.mu.Lock()
				defer own.mu.Unlock()
				last := own.events[len(own.events)-1]
				if last.Type != transport.EventLogout || errors.Is(last.Err, transport.ErrStorage) != tt.alive {
					t.Errorf("the event is %s with %v", last.Type, last.Err)
				}
				if _, _, err := s.Cfg().Cache.Load(t.Context(), s.Key()); !errors.Is(err, tokencache.ErrNotFound) || errors.Is(err, tokencache.ErrNoTrace) {
					t.Errorf("the logout leaves no trace: %v", err)
				}
			})
		})
	}
}
