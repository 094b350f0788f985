package storecheck

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// MoveIn imports the logins of another store twice at the same time, while somebody refreshes
// those that have come already, and checks that each comes once and none goes back.
func MoveIn(t *testing.T, s tokencache.Store) {
	const logins = 200
	key := func(i int) tokencache.Key {
		return tokencache.Key{Issuer: "https://issuer.test", ClientID: "app", Account: fmt.Sprint(i)}
	}
	old, c := cache(t, new(tokencache.Memory), "1"), cache(t, s, "2")
	for i := range logins {
		if _, err := old.Save(t.Context(), key(i), &tokencache.Record{LoginID: "a", Generation: 1}, ""); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var refreshed [logins]uint64
	var refresher, imports sync.WaitGroup
	refresher.Go(func() {
		for i := 0; ctx.Err() == nil; i = (i + 1) % logins {
			generation, err := refresh(t.Context(), c, key(i))
			if err != nil {
				t.Error(err)
			}
			refreshed[i] = max(refreshed[i], generation)
		}
	})
	var mu sync.Mutex
	imported, begun := 0, time.Now()
	for range 2 {
		imports.Go(func() {
			n, kept, err := c.Import(t.Context(), old.List(t.Context()))
			if n+kept != logins || err != nil {
				t.Errorf("imported %d, kept %d, %v", n, kept, err)
			}
			mu.Lock()
			defer mu.Unlock()
			imported += n
		})
	}
	imports.Wait()
	t.Logf("%v for each login", time.Since(begun)/logins)
	stop()
	refresher.Wait()
	if imported != logins {
		t.Errorf("%d logins were imported, want %d", imported, logins)
	}
	for i := range logins {
		if r, _, err := c.Load(t.Context(), key(i)); err != nil || r.Generation < max(refreshed[i], 1) {
			t.Errorf("login %d: %+v, %v, want generation %d", i, r, err, refreshed[i])
		}
	}
}

// refresh saves the next generation of a login, if it is there, and returns that.
func refresh(ctx context.Context, c *tokencache.Cache, key tokencache.Key) (uint64, error) {
	unlock, err := c.Lock(ctx, key)
	if err != nil {
		return 0, err
	}
	defer unlock()
	r, v, err := c.Load(ctx, key)
	if errors.Is(err, tokencache.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	r.Generation++
	_, err = c.Save(ctx, key, r, v)
	return r.Generation, err
}
