package transport_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Whatever a store that loses things loses, and whenever, no login ends and no refresh
// token is presented twice, as long as KeepFresh runs.
func TestLossesEndNoLogin(t *testing.T) {
	t.Parallel()
	for seed := range testkit.Pick[uint64](4, 10) {
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

// While the provider takes its time with a refresh token whose login and lock were lost, the
// process that has sent it says so once a second, and others neither spend it nor look without
// a pause.
func TestALossCausesNoStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 9 * time.Second})
		store := new(losing)
		w.store = store
		pools := w.keptFresh(3, 100)
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

// halfKnown returns two replicas that keep the logins of 20 users fresh, of which the second
// has held only the last ten. stop ends them.
func halfKnown(t *testing.T, change ...func(*transport.PoolConfig)) (w *world, store *losing, pools []*transport.Pool, users []string, stop func()) {
	t.Helper()
	w, store = newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily}), new(losing)
	w.store = store
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		p, _ := w.pool(100, change...)
		go p.KeepFresh(ctx)
		pools = append(pools, p)
	}
	users = w.accounts(pools[0], 20)
	for _, user := range users[10:] {
		if _, err := pools[1].Source(user).Token(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return w, store, pools, users, func() {
		cancel()
		time.Sleep(time.Minute) // until all has ended
	}
}

// A replica that has never held a login tells nobody to log in while the store is losing
// logins and another replica may put this one back; but somebody who has none learns that at
// once when nothing is lost, and soon when something is.
func TestALoginUnknownHereMayReturn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log strings.Builder
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		w, store, pools, users, stop := halfKnown(t, func(cfg *transport.PoolConfig) { cfg.Source.Logger = logger })
		defer stop()
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
		stop()
		if !strings.Contains(log.String(), "stayauth: restored") {
			t.Errorf("the log tells no person of the loss: %s", log.String())
		}
	})
}

// As long as a store that is empty accepts no writes, as a replica that has followed an empty
// primary, nobody is told to log in: not after the time that others have to put a login back.
func TestAnEmptyReplicaTellsNobodyToLogIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, store, pools, users, stop := halfKnown(t)
		defer stop()
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

// A login that was replaced by another before the store lost both does not come back in
// the place of that, whoever puts what he has back first.
func TestTheLatestLoginIsPutBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := new(losing)
		w.store = store
		var sources []*transport.Source
		for _, p := range w.keptFresh(2, 10) {
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
		if _, err := sources[0].Token(t.Context()); err != nil {
			t.Error(err)
		}
		if r := w.stored(sources[0]); r.LoginID != latest || r.Tombstone != nil {
			t.Errorf("stored is the login that was replaced")
		}
	})
}
