package transport_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// The simulation of a month with ten thousand logins takes some ten minutes, see CONTRIBUTING.
var (
	upkeepLogins   = flag.Int("upkeep-logins", 400, "how many logins TestUpkeepOfUnusedLogins has")
	upkeepDays     = flag.Int("upkeep-days", 9, "how many days it lasts")
	upkeepDay      = flag.Duration("upkeep-day", time.Hour, "how long a day is there, which is also the period")
	upkeepReplicas = flag.Int("upkeep-replicas", 2, "how many processes share the store")
)

// A disuse is a provider that accepts each refresh token once, and ends a login that was not
// refreshed for a time.
type disuse struct {
	idleTime time.Duration
	lifetime time.Duration // that its preset knows, or 0

	mu        sync.Mutex
	current   map[string]tokencache.Secret // by account
	used      map[string]time.Time
	down      bool
	requests  []time.Time
	refusals  int
	latency   time.Duration
	life      time.Duration                         // of an access token
	fault     func(account string) *transport.Error // instead of an answer
	ends      time.Duration                         // of a login after it was made, which refreshes do not postpone; 0: never
	made      map[string]time.Time
	postpones time.Duration // life of each refresh token, or 0 if the answers do not say
	exchange  bool          // an access token is its own refresh token
}

func newDisuse(idleTime time.Duration) *disuse {
	return &disuse{idleTime: idleTime, latency: 150 * time.Millisecond, life: time.Hour,
		current: map[string]tokencache.Secret{}, made: map[string]time.Time{}, used: map[string]time.Time{}}
}

// login returns the tokens of a new login.
func (d *disuse) login(account string) *tokencache.Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made[account] = transport.WallNow()
	return d.issue(account)
}

func (d *disuse) issue(account string) *tokencache.Record {
	now := transport.WallNow()
	token := tokencache.Secret(fmt.Sprintf("%s %d", account, now.UnixNano()))
	d.current[account], d.used[account] = token, now
	access := "a" + token
	if d.exchange {
		access = token
	}
	rec := &tokencache.Record{AccessToken: access, RefreshToken: token, TokenType: "Bearer", ObtainedAt: now, Expiry: now.Add(d.life)}
	if d.ends > 0 {
		rec.RefreshExpiry = d.made[account].Add(d.ends)
	}
	if d.postpones > 0 {
		rec.RefreshExpiry = now.Add(d.postpones)
	}
	return rec
}

// A replica is the provider as one process sees it.
type replica struct {
	*disuse
	now, most atomic.Int32
}

func (r *replica) Identity() transport.Identity {
	return transport.Identity{Key: tokencache.Key{Issuer: "https://as.example", ClientID: "app"}, IdleTime: r.idleTime, Lifetime: r.lifetime}
}

func (r *replica) Check(rec *tokencache.Record) error {
	if rec.RefreshToken == "" {
		return &transport.Error{Kind: transport.ErrLoginRequired, Op: "refresh"}
	}
	return nil
}

func (r *replica) Refresh(_ context.Context, rec *tokencache.Record) (*tokencache.Record, error) {
	n := r.now.Add(1)
	defer r.now.Add(-1)
	for most := r.most.Load(); n > most && !r.most.CompareAndSwap(most, n); most = r.most.Load() {
	}
	time.Sleep(r.latency)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Status: 503}
	}
	r.requests = append(r.requests, time.Now())
	account := rec.Key.Account
	if r.fault != nil {
		if err := r.fault(account); err != nil {
			return nil, err
		}
	}
	if rec.RefreshToken != r.current[account] || time.Since(r.used[account]) > r.idleTime || r.ends > 0 && time.Since(r.made[account]) > r.ends {
		r.refusals++
		return nil, &transport.Error{Kind: transport.ErrLoginRequired, Op: "refresh", Status: 400, Code: "invalid_grant"}
	}
	return r.issue(account), nil
}

// busiest returns the most requests from a time on in any window of this length.
func (d *disuse) busiest(since time.Time, window time.Duration) (most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	requests := d.requests[sortedAfter(d.requests, since):]
	first := 0
	for i, at := range requests {
		for at.Sub(requests[first]) >= window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func sortedAfter(times []time.Time, t time.Time) int {
	i, _ := slices.BinarySearchFunc(times, t, time.Time.Compare)
	return i
}

// count returns how many requests there were since a time.
func (d *disuse) count(since time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.requests) - sortedAfter(d.requests, since)
}

// A fleet is a service of several replicas that share a store.
type fleet struct {
	t        *testing.T
	provider *disuse
	store    tokencache.Store
	change   func(*transport.PoolConfig)
	log      slog.Handler  // if set
	day      time.Duration // in which each replica is deployed twice

	mu     sync.Mutex
	events []transport.Event
	most   int32 // refreshes of one replica at a time
	memory int   // logins in the memory of one replica
}

const fleetRefreshes = 4 // PoolConfig.MaxRefreshes

func (f *fleet) pool() (*transport.Pool, *replica) {
	f.t.Helper()
	cache, err := tokencache.New(f.store, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	r := &replica{disuse: f.provider}
	cfg := transport.PoolConfig{MaxRefreshes: fleetRefreshes, Source: transport.SourceConfig{
		Cache: cache, Refresher: r, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		OnEvent: func(_ context.Context, e transport.Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.events = append(f.events, e)
		},
	}}
	if f.log != nil {
		cfg.Source.Logger = slog.New(f.log)
	}
	if f.change != nil {
		f.change(&cfg)
	}
	p, err := transport.NewPool(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	return p, r
}

// login makes n logins within a minute.
func (f *fleet) login(n int) {
	f.t.Helper()
	p, _ := f.pool()
	for i := range n {
		account := fmt.Sprint("account ", i)
		if err := p.Source(account).Login(f.t.Context(), f.provider.login(account)); err != nil {
			f.t.Fatal(err)
		}
		time.Sleep(time.Minute / time.Duration(n))
	}
	if err := p.Close(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// run runs the replicas, each of which is deployed anew twice a day, until the returned function
// is called.
func (f *fleet) run(replicas int) (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var all sync.WaitGroup
	for i := range replicas {
		all.Go(func() {
			for life := f.day / 2 / time.Duration(replicas) * time.Duration(i+1); ctx.Err() == nil; life = f.day / 2 {
				p, r := f.pool()
				living, die := context.WithTimeout(ctx, life)
				p.KeepFresh(living)
				die()
				memory := resident(p)
				if err := p.Close(context.Background()); err != nil {
					f.t.Errorf("Close: %v", err)
				}
				f.mu.Lock()
				f.most, f.memory = max(f.most, r.most.Load()), max(f.memory, memory)
				f.mu.Unlock()
				time.Sleep(20 * time.Second)
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// lost returns how many logins have ended at the provider, or in the store.
func (f *fleet) lost() (n int) {
	cache, err := tokencache.New(f.store, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for rec, err := range cache.List(f.t.Context()) {
		f.provider.mu.Lock()
		account := rec.Key.Account
		if err != nil || rec.Tombstone != nil || rec.RefreshToken != f.provider.current[account] || time.Since(f.provider.used[account]) > f.provider.idleTime {
			n++
		}
		f.provider.mu.Unlock()
	}
	return n
}

// For days nobody sends a request, the replicas of the service are deployed twice a day, and
// the provider ends a login that is not used for a week. No login ends, and nothing is done in
// bursts: not when all logins were made within a minute, not after a deploy, not after a day on
// which the provider was down.
func TestUpkeepOfUnusedLogins(t *testing.T) {
	t.Parallel()
	day := *upkeepDay
	for _, tt := range []struct {
		name     string
		replicas int
		outage   time.Duration
		off      bool
	}{
		{"an outage of a day", *upkeepReplicas, day, false},
		{"no upkeep", 1, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				logins, days := *upkeepLogins, *upkeepDays
				f := &fleet{t: t, provider: newDisuse(7 * day), store: new(tokencache.Memory), day: day}
				f.provider.life = day / 24
				f.change = func(cfg *transport.PoolConfig) {
					if cfg.Source.RenewEvery = day; tt.off {
						cfg.Source.RenewEvery = -1
					}
				}
				f.login(logins)
				begun := time.Now()
				stop := f.run(tt.replicas)
				span := time.Duration(days) * day
				if tt.outage > 0 {
					time.Sleep(2 * day)
					f.provider.setDown(true)
					time.Sleep(tt.outage)
					f.provider.setDown(false)
				}
				time.Sleep(time.Until(begun.Add(span)))
				stop()
				lost := f.lost()
				if tt.off {
					if lost != logins {
						t.Errorf("%d logins of %d were lost without upkeep: this test can show nothing", lost, logins)
					}
					return
				}
				// The least is one refresh in a period, beginning a period after the login.
				n, least := f.provider.count(begun), logins*int((span-tt.outage)/day-1)
				mean := float64(logins) / 24 // in an hour of such a day
				// Chance alone makes more than twice the mean of a few.
				window := max(1, time.Duration(50/mean)) * day / 24
				burst, calm := f.provider.busiest(begun, window), mean*float64(window/(day/24))
				t.Logf("%d logins, %d days: %d lost, %d requests (%.3f of the least), at most %d at a time, at most %d in %v (%.2f of the mean), %d in memory",
					logins, days, lost, n, float64(n)/float64(least), f.most, burst, window, float64(burst)/calm, f.memory)
				if lost > 0 || f.provider.refusals > 0 {
					t.Errorf("%d logins were lost, %d requests were refused", lost, f.provider.refusals)
				}
				if float64(n) > 1.1*float64(least) {
					t.Errorf("%d token requests, the least are %d", n, least)
				}
				if f.most > fleetRefreshes {
					t.Errorf("%d refreshes at a time", f.most)
				}
				if float64(burst) > 2*calm {
					t.Errorf("%d requests within %v, of which a mean one has %.1f", burst, window, calm)
				}
				if f.memory > 10 {
					t.Errorf("%d logins that nobody uses stay in memory", f.memory)
				}
				for _, e := range f.events {
					switch e.Type {
					case transport.EventLogin, transport.EventRefreshed, transport.EventAdopted, transport.EventRefreshFailed:
					default:
						t.Errorf("event %q", e.Type)
					}
				}
			})
		})
	}
}

func (d *disuse) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}
