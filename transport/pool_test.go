package transport_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// pool returns a Pool of the world's provider and a client that uses it.
func (w *world) pool(size int, change ...func(*transport.PoolConfig)) (*transport.Pool, *http.Client) {
	w.t.Helper()
	cfg := transport.PoolConfig{Source: *w.source().Cfg(), Size: size}
	for _, f := range change {
		f(&cfg)
	}
	p, err := transport.NewPool(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Pool: p, Origins: []string{w.srv.APIOrigin()}, Base: w.base})
	if err != nil {
		w.t.Fatal(err)
	}
	return p, &http.Client{Transport: rt}
}

// accounts logs n accounts in and returns their names.
func (w *world) accounts(p *transport.Pool, n int) []string {
	w.t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("account-%04d", i)
		w.login(p.Source(names[i]), names[i])
	}
	return names
}

// whoami calls the API in the name of the account and returns who the API took it for.
func (w *world) whoami(c *http.Client, account string) (string, error) {
	req := newRequest(w.t, "GET", w.srv.APIURL(), nil)
	resp, err := c.Do(req.WithContext(transport.WithAccount(w.t.Context(), account)))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var echo oauthtest.Echo
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	err = json.NewDecoder(resp.Body).Decode(&echo)
	return echo.Account, err
}

// resident returns how many logins are in memory.
func resident(p *transport.Pool) (n int) {
	for i := range p.Shards() {
		p.Shards()[i].Mu().Lock()
		n += len(p.Shards()[i].Ring())
		p.Shards()[i].Mu().Unlock()
	}
	return n
}

// holds reports whether the login is in memory.
func holds(p *transport.Pool, account string) bool {
	return slices.ContainsFunc(p.Shards()[0].Ring(), func(s *transport.Source) bool { return s.Account() == account })
}

// Every request gets the token of its account, also when many share a small pool
// and tokens expire.
func TestPoolKeepsAccountsApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 300 * time.Millisecond})
		p, c := w.pool(8)
		names := w.accounts(p, 50)
		var work sync.WaitGroup
		for round := range 3 {
			for i := range 4 * len(names) {
				work.Go(func() {
					want := names[i*7%len(names)]
					if got, err := w.whoami(c, want); err != nil || got != want {
						t.Errorf("round %d: the API took %q for %q, %v", round, want, got, err)
					}
				})
			}
			work.Wait()
			time.Sleep(2 * time.Hour)
		}
		if n := resident(p); n > 8 {
			t.Errorf("%d logins in memory, want at most 8", n)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
		w.wantCounts(2*len(names), 0)
	})
}

// A login that was given up is read from the cache again, without the provider.
func TestPoolReloads(t *testing.T) {
	w := newWorld(t, defaultServer)
	p, c := w.pool(4)
	names := w.accounts(p, 40)
	for range 2 {
		for _, name := range names {
			if got, err := w.whoami(c, name); err != nil || got != name {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	if n := resident(p); n != 4 {
		t.Errorf("%d logins in memory, want 4", n)
	}
	w.wantCounts(0, 0)
}

// What is used often stays, whatever else comes by.
func TestPoolKeepsWhatIsUsed(t *testing.T) {
	w := newWorld(t, defaultServer)
	p, _ := w.pool(transport.MinShardSize)
	often := p.Source("often")
	for i := range 20 * transport.MinShardSize {
		p.Source(fmt.Sprint("once ", i))
		if i%(transport.MinShardSize/4) == 0 && p.Source("often") != often {
			t.Fatal("it was given up")
		}
		if i%(transport.MinShardSize/4) == 0 {
			if !holds(p, "often") {
				t.Fatal("it was given up")
			}
		}
	}
	runtime.KeepAlive(often)
}

// As long as anybody uses a Source, all others get the same one.
func TestPoolHasOneSourceOfAnAccount(t *testing.T) {
	w := newWorld(t, defaultServer)
	p, _ := w.pool(2)
	held := p.Source("held")
	for i := range 1000 {
		p.Source(fmt.Sprint(i))
		if i%300 == 0 {
			runtime.GC()
		}
	}
	if p.Source("held") != held {
		t.Error("there are two Sources of one account")
	}
	for i := range 1000 {
		p.Source(fmt.Sprint(i))
		if i%100 == 0 {
			runtime.GC()
		}
	}
	if n := len(p.Shards()[0].Left()); n > 4*transport.MaxTries {
		t.Errorf("%d logins that nobody uses are remembered", n)
	}
}

// A refresh goes on when its login is given up, and whoever asks joins it.
func TestPoolFindsARefreshInFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Second})
		p, c := w.pool(1)
		w.login(p.Source("ann"), "ann")
		time.Sleep(2 * time.Hour)
		ctx, cancel := context.WithCancel(transport.WithAccount(t.Context(), "ann"))
		go func() { c.Do(newRequest(t, "GET", w.srv.APIURL(), nil).WithContext(ctx)) }()
		synctest.Wait()
		cancel() // The caller does not hold it either.
		synctest.Wait()
		for i := range 100 {
			p.Source(fmt.Sprint(i))
		}
		runtime.GC()
		if holds(p, "ann") {
			t.Fatal("the pool is not under pressure")
		}
		if got, err := w.whoami(c, "ann"); err != nil || got != "ann" {
			t.Fatalf("%q, %v", got, err)
		}
		w.wantCounts(1, 0)
	})
}

// What could not be saved is not lost when its login is given up, and Close
// tells the truth.
func TestPoolFindsWhatIsUnsaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		p, c := w.pool(1)
		w.login(p.Source("ann"), "ann")
		time.Sleep(2 * time.Hour)
		store.failAfterJournal(tokencache.ErrUnavailable)
		if _, err := w.whoami(c, "ann"); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			p.Source(fmt.Sprint(i))
		}
		runtime.GC()
		if st, err := p.Source("ann").Status(t.Context()); err != nil || st.State != transport.StateUnsaved {
			t.Errorf("state %q, %v", st.State, err)
		}
		if err := p.Flush(t.Context()); !errors.Is(err, transport.ErrStorage) {
			t.Errorf("Flush: %v", err)
		}
		store.heal()
		time.Sleep(time.Minute)
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if r := w.stored(p.Source("ann")); string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
			t.Error("an old refresh token is stored")
		}
	})
}

// While the provider is down, the logins that wait for it are given up last, so
// that a small pool does not ask it at every request.
func TestPoolRemembersAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		p, c := w.pool(8)
		names := w.accounts(p, 6)
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 0, oauthtest.Status(503, time.Minute))
		for i := range 100 {
			for _, name := range names {
				if _, err := w.whoami(c, name); !errors.Is(err, transport.ErrAmbiguous) && !errors.Is(err, transport.ErrUnavailable) {
					t.Fatalf("%v", err)
				}
			}
			p.Source(fmt.Sprint("other ", i))
			runtime.GC()
		}
		w.wantCounts(1, 0)
	})
}

// A closed pool starts nothing, for no account.
func TestPoolClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, defaultServer)
		p, _ := w.pool(2)
		names := w.accounts(p, 10)
		time.Sleep(2 * time.Hour)
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Close(done); err != nil { // There is nothing to wait for.
			t.Fatalf("Close: %v", err)
		}
		for _, name := range append(names, "new") {
			if _, err := p.Source(name).Token(t.Context()); !errors.Is(err, transport.ErrMisconfigured) {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.wantCounts(0, 0)
	})
}

// What takes the place of a Source that was closed is closed too, if the Pool was
// meanwhile.
func TestPoolClosedWhileASourceIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		p, _ := w.pool(4)
		s := p.Source("ann")
		for _, close := range []func(context.Context) error{s.Close, p.Close} {
			if err := close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if !p.Shards()[0].Replace(s, p).Closed().Load() { // by a Pool.Source that began before
			t.Error("a closed Pool has a Source that is open")
		}
	})
}

// A closed Source is not forgotten while it has something to save: nobody else can.
func TestPoolKeepsAClosedSourceThatIsUnsaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		p, c := w.pool(1)
		w.accounts(p, 1)
		time.Sleep(2 * time.Hour)
		store.failAfterJournal(tokencache.ErrUnavailable)
		if _, err := w.whoami(c, "account-0000"); err != nil {
			t.Fatal(err)
		}
		if err := p.Source("account-0000").Close(t.Context()); err == nil {
			t.Error("Close: saved")
		}
		if _, err := w.whoami(c, "account-0000"); err != nil {
			t.Error(err)
		}
		p.Source("another") // makes it leave
		if err := p.Flush(t.Context()); !errors.Is(err, transport.ErrStorage) {
			t.Errorf("Flush: %v", err)
		}
		store.heal()
		time.Sleep(2 * time.Hour)
		if _, err := w.whoami(c, "account-0000"); err != nil {
			t.Error(err)
		}
		w.wantCounts(2, 0)
	})
}

func TestPoolRefusals(t *testing.T) {
	w := newWorld(t, defaultServer)
	p, c := w.pool(0)
	for name, ctx := range map[string]context.Context{"no account": t.Context(), "an empty account": transport.WithAccount(t.Context(), "")} {
		if _, err := c.Do(newRequest(t, "GET", w.srv.APIURL(), nil).WithContext(ctx)); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := w.srv.Counts().APICalls; n != 0 {
		t.Errorf("%d calls without a token", n)
	}
	for name, make := range map[string]func() error{
		"neither": func() error {
			_, err := transport.New(transport.Config{Origins: []string{"https://x.test"}})
			return err
		},
		"both": func() error {
			_, err := transport.New(transport.Config{Source: w.source(), Pool: p, Origins: []string{"https://x.test"}})
			return err
		},
		"no cache": func() error { _, err := transport.NewPool(transport.PoolConfig{}); return err },
		"negative size": func() error {
			_, err := transport.NewPool(transport.PoolConfig{Source: *p.Cfg(), Size: -1})
			return err
		},
		"negative rate": func() error {
			_, err := transport.NewPool(transport.PoolConfig{Source: *p.Cfg(), MaxRefreshes: -1})
			return err
		},
	} {
		if err := make(); !errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.whoami(c, "nobody"); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("not logged in: %v", err)
	}
}

// To log one account out ends the login for its requests and for no other's.
func TestPoolLogout(t *testing.T) {
	w := newWorld(t, defaultServer)
	p, c := w.pool(2)
	names := w.accounts(p, 6)
	if err := p.Source(names[0]).Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.whoami(c, names[0]); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("after the logout: %v", err)
	}
	for _, name := range names[1:] {
		if got, err := w.whoami(c, name); err != nil || got != name {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// KeepFresh refreshes what is in memory in time, not at once and not with too
// many requests, and does not touch a login that is over.
func TestPoolKeepFresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 200 * time.Millisecond})
		load := &gauge{seconds: map[int64]int{}}
		p, c := w.pool(1000, func(cfg *transport.PoolConfig) {
			load.Endpoint = w.endpoint()
			cfg.Source.Refresher, cfg.MaxRefreshes = load, 3
		})
		names := w.accounts(p, 300)
		w.srv.RevokeFamily(w.srv.Current(names[0]).RefreshToken)

		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- p.KeepFresh(ctx) }()
		time.Sleep(150 * time.Minute)
		synctest.Wait()
		refreshed := w.srv.Counts().TokenRequests
		for _, name := range names[1:] {
			if got, err := w.whoami(c, name); err != nil || got != name {
				t.Fatalf("%q, %v", got, err)
			}
		}
		synctest.Wait()
		if n := w.srv.Counts().TokenRequests; n != refreshed {
			t.Errorf("%d requests had to start a refresh", n-refreshed)
		}
		if want := 2*(len(names)-1) + 1; refreshed != want {
			t.Errorf("%d token requests, want %d: 2 for each login, and 1 for the one that was revoked", refreshed, want)
		}
		if n := load.most.Load(); n > 3 {
			t.Errorf("%d refreshes at a time, want at most 3", n)
		}
		for second, n := range load.seconds {
			if n > len(names)/10 {
				t.Errorf("%d refreshes within second %d", n, second)
			}
		}
		cancel()
		if err := <-stopped; !errors.Is(err, context.Canceled) {
			t.Errorf("KeepFresh: %v", err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// KeepFresh keeps up with short-lived tokens.
func TestPoolKeepFreshOfShortLives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 10 * time.Second, Latency: 300 * time.Millisecond})
		p, c := w.pool(100)
		names := w.accounts(p, 5)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.KeepFresh(ctx)
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			for _, name := range names {
				begun := time.Now()
				if _, err := w.whoami(c, name); err != nil || time.Since(begun) > 100*time.Millisecond {
					t.Fatalf("%v, after waiting %v", err, time.Since(begun))
				}
			}
		}
	})
}

// A gauge counts the refreshes at a time, and in each second.
type gauge struct {
	*endpoint.Endpoint
	now, most atomic.Int32
	mu        sync.Mutex
	seconds   map[int64]int
}

func (g *gauge) Refresh(ctx context.Context, rec *tokencache.Record) (*tokencache.Record, error) {
	n := g.now.Add(1)
	defer g.now.Add(-1)
	g.mu.Lock()
	g.seconds[time.Now().Unix()]++
	g.most.Store(max(n, g.most.Load()))
	g.mu.Unlock()
	return g.Endpoint.Refresh(ctx, rec)
}
