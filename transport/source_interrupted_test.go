package transport_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A recoverer is a store that knows whose lock the dead have left.
type recoverer struct {
	*tokencache.Memory
	mu    sync.Mutex
	left  map[string]bool
	looks int
}

func (r *recoverer) Interrupted(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		r.mu.Lock()
		r.looks++
		down := r.looks == 2
		var names []string
		for name := range r.left {
			names = append(names, name)
		}
		r.mu.Unlock()
		if down && !yield("", tokencache.ErrUnavailable) {
			return
		}
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (r *recoverer) Lock(ctx context.Context, name string) (func() error, error) {
	unlock, err := r.Memory.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return func() error {
		r.mu.Lock()
		delete(r.left, name)
		r.mu.Unlock()
		return unlock()
	}, nil
}

// diesRefreshing does what a process does that is killed before it saves the answer.
func (w *world) diesRefreshing(account string) {
	w.t.Helper()
	dead := w.source(func(c *transport.SourceConfig) { c.Key.Account = account })
	cur, v, err := dead.Cfg().Cache.Load(w.t.Context(), dead.Key())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := dead.Prepare(w.t.Context(), cur, v); err != nil {
		w.t.Fatal(err)
	}
	if _, err := dead.Cfg().Refresher.Refresh(w.t.Context(), cur); err != nil {
		w.t.Fatal(err)
	}
	store := w.store.(*recoverer)
	store.mu.Lock()
	defer store.mu.Unlock()
	store.left[dead.Key().Name()] = true
}

// Replicas make up for what one of them had under way when it was killed, once, and
// before the provider's grace has passed: whether they have the login in memory, with a
// token that is good for long, or not, and though nobody asks for it.
func TestPoolRecoversInterruptedRefreshes(t *testing.T) {
	for _, inMemory := range []bool{true, false} {
		t.Run(fmt.Sprintf("in memory %v", inMemory), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.Grace, GracePeriod: 10 * time.Second})
				w.store = &recoverer{Memory: new(tokencache.Memory), left: map[string]bool{}}
				first, client := w.pool(100)
				names := w.accounts(first, 40)
				other := w.source(func(c *transport.SourceConfig) { c.Key = tokencache.Key{Issuer: "another", Account: names[0]} })
				w.login(other, "other")
				ctx, cancel := context.WithCancel(t.Context())
				var keepers sync.WaitGroup
				defer keepers.Wait()
				defer cancel()
				for range 3 {
					p := first
					if !inMemory {
						p, client = w.pool(100)
					}
					keepers.Go(func() { p.KeepFresh(ctx) })
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				w.wantCounts(0, 0)
				for _, name := range names {
					w.diesRefreshing(name)
				}
				store := w.store.(*recoverer)
				store.mu.Lock()
				store.left[other.Key().Name()] = true
				store.mu.Unlock()
				if _, v, err := other.Cfg().Cache.Load(t.Context(), other.Key()); err != nil {
					t.Fatal(err)
				} else if _, err := other.Prepare(t.Context(), w.stored(other), v); err != nil {
					t.Fatal(err)
				}
				time.Sleep(15 * time.Minute)
				synctest.Wait()
				w.wantCounts(2*len(names), 0) // Each was asked for once by the dead, and once more.
				for _, name := range names {
					if rec := w.stored(first.Source(name)); rec.Attempt != nil || rec.Generation != 2 || string(rec.RefreshToken) != w.srv.Current(name).RefreshToken {
						t.Errorf("%s: nobody has made up for the refresh: generation %d, %+v", name, rec.Generation, rec.Attempt)
					}
					if got, err := w.whoami(client, name); err != nil || got != name {
						t.Errorf("%q, %v", got, err)
					}
				}
				if store.mu.Lock(); len(store.left) != 1 {
					t.Errorf("%d locks of the dead are left, want only that of another service", len(store.left))
				}
				store.mu.Unlock()
			})
		})
	}
}

// If the provider is down just then, KeepFresh goes on trying.
func TestPoolRecoversAfterAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.Grace, GracePeriod: 10 * time.Minute})
		w.store = &recoverer{Memory: new(tokencache.Memory), left: map[string]bool{}}
		first, _ := w.pool(10)
		w.accounts(first, 1)
		time.Sleep(2 * time.Hour)
		w.diesRefreshing("account-0000")
		w.srv.Fault("/token", 0, oauthtest.Status(503, 0))
		p, _ := w.pool(10) // which has never heard of the account
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.KeepFresh(ctx)
		time.Sleep(4 * time.Second)
		if w.stored(first.Source("account-0000")).Attempt == nil || w.srv.Counts().TokenRequests < 1 {
			t.Fatal("there was no outage")
		}
		w.srv.Heal()
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if rec := w.stored(first.Source("account-0000")); rec.Attempt != nil || rec.Generation != 2 || rec.Tombstone != nil {
			t.Errorf("nobody has made up for the refresh: %v", rec)
		}
	})
}
