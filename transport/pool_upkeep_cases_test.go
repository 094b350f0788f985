package transport_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// In these tests a day has an hour, and a period is as long.
const short = time.Hour

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, provider: newDisuse(7 * short), store: new(tokencache.Memory), day: short}
	f.provider.life = 5 * time.Minute
	f.change = func(cfg *transport.PoolConfig) { cfg.Source.RenewEvery = short }
	return f
}

// seen returns how many events of the type there were.
func (f *fleet) seen(want transport.EventType) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.Type == want {
			n++
		}
	}
	return n
}

// keepFresh runs a pool until the returned function is called.
func (f *fleet) keepFresh(p *transport.Pool) (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error)
	go func() { ended <- p.KeepFresh(ctx) }()
	return func() {
		cancel()
		<-ended
		if err := p.Close(context.Background()); err != nil {
			f.t.Errorf("Close: %v", err)
		}
	}
}

func (f *fleet) save(key tokencache.Key, rec *tokencache.Record) {
	f.t.Helper()
	cache, err := tokencache.New(f.store, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := cache.Save(f.t.Context(), key, rec, ""); err != nil {
		f.t.Fatal(err)
	}
}

// Upkeep renews the pool's own logins, those with a label too, each through a period and once;
// and leaves alone what is dead, needs no upkeep or belongs to others.
func TestUpkeepKnowsItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		own := (&replica{disuse: f.provider}).Identity().Key
		account := func(name string) tokencache.Key {
			k := own
			k.Account = name
			return k
		}
		labelled := account("ann").WithLabel("work")
		for _, key := range []tokencache.Key{account("ann"), labelled, account("bob")} {
			f.save(key, f.provider.login(key.Account))
		}
		dead := f.provider.login("dead")
		dead.Tombstone = &tokencache.Tombstone{At: time.Now(), Code: "invalid_grant"}
		f.save(account("dead"), dead)
		machine := f.provider.login("machine")
		machine.RefreshToken = ""
		f.save(account("machine"), machine)
		stranger := account("stranger")
		stranger.ClientID = "another"
		f.save(stranger, f.provider.login("stranger"))
		if _, err := f.store.Save(t.Context(), "damaged", []byte("{"), ""); err != nil {
			t.Fatal(err)
		}
		p, _ := f.pool()
		defer f.keepFresh(p)()
		time.Sleep(3 * short)
		if n := f.provider.count(time.Time{}); n < 3*2 || n > 3*3 {
			t.Errorf("%d token requests in three periods for three logins", n)
		}
		for _, key := range []tokencache.Key{account("ann"), labelled, account("bob")} {
			if rec := stored(t, f.store, key); rec.Generation < 2 || time.Since(rec.ObtainedAt) > 2*short {
				t.Errorf("%q was renewed %d times, the last time %v ago", key.Account, rec.Generation, time.Since(rec.ObtainedAt))
			}
		}
		if n := f.provider.refusals; n > 0 {
			t.Errorf("%d requests were refused", n)
		}
	})
}

func stored(t *testing.T, store tokencache.Store, key tokencache.Key) *tokencache.Record {
	t.Helper()
	cache, err := tokencache.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	rec, _, err := cache.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// A login that upkeep finds dead is reported once, however many replicas are about to renew it,
// and the provider is not asked again.
func TestUpkeepReportsADeathOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const dead = 100
		f := newFleet(t)
		f.provider.latency = 5 * time.Second // so that the replicas meet
		f.change = func(cfg *transport.PoolConfig) { cfg.Source.RenewEvery, cfg.MaxRefreshes = short, 1 }
		f.login(3 * dead)
		for i := range dead {
			delete(f.provider.current, fmt.Sprint("account ", i))
		}
		stop := f.run(3)
		time.Sleep(3 * short)
		stop()
		if n := f.seen(transport.EventLoginRequired); n != dead || f.provider.refusals != dead {
			t.Errorf("login required was reported %d times, after %d requests; want %d", n, f.provider.refusals, dead)
		}
	})
}

// After an outage that leaves little of the provider's patience, the logins in danger come first,
// and the others keep to their times.
func TestUpkeepAfterALongOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.login(200)
		time.Sleep(6*short + short/4)
		p, r := f.pool()
		stop := f.keepFresh(p)
		back := time.Now()
		time.Sleep(2 * short)
		stop()
		if lost := f.lost(); lost > 0 {
			t.Errorf("%d logins were lost", lost)
		}
		if n := f.provider.busiest(back, short/48); n > 100 || r.most.Load() > fleetRefreshes {
			t.Errorf("%d requests within half an hour of such a day, %d at a time", n, r.most.Load())
		}
	})
}

// What a day without the store has left undone is spread over a period when it is back.
func TestUpkeepAfterAnOutageOfTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log bytes.Buffer
		store := &switched{Memory: new(tokencache.Memory)}
		f := newFleet(t)
		f.store = store
		f.log = slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})
		const logins = 240
		f.login(logins)
		p, _ := f.pool()
		stop := f.keepFresh(p)
		time.Sleep(2 * short)
		store.off.Store(true)
		time.Sleep(short)
		store.off.Store(false)
		back := time.Now()
		time.Sleep(3 * short)
		stop()
		if lost := f.lost(); lost > 0 {
			t.Errorf("%d logins were lost", lost)
		}
		if n := f.provider.busiest(back, short/4); n > 2*logins/4 {
			t.Errorf("%d requests within a quarter of a period, of which a mean one has %d", n, logins/4)
		}
		if n := strings.Count(log.String(), "unused logins cannot be renewed"); n != 1 {
			t.Errorf("%d warnings, want one for the outage: %s", n, log.String())
		}
	})
}

// If the answer to a renewal is lost, it is repeated while the provider still forgives, not a
// day later; meanwhile nothing is reported that nobody can see the end of.
func TestUpkeepRepeatsALostRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.login(1)
		var lost time.Time
		failures := 0
		f.provider.fault = func(string) *transport.Error {
			if lost.IsZero() {
				lost = time.Now()
			}
			if failures++; failures > 3 { // All that one attempt makes.
				return nil
			}
			return &transport.Error{Kind: transport.ErrAmbiguous, Op: "refresh", Status: 500}
		}
		p, _ := f.pool()
		defer f.keepFresh(p)()
		for range 2 * 60 {
			time.Sleep(time.Minute)
			f.provider.mu.Lock()
			done := failures > 3
			f.provider.mu.Unlock()
			if done {
				break
			}
		}
		synctest.Wait()
		if took := time.Since(lost); failures < 4 || took > 3*time.Minute {
			t.Errorf("%d attempts, %v after the lost one", failures, took)
		}
		if stored, outages, ends := f.lost(), f.seen(transport.EventOutage), f.seen(transport.EventRecovered); stored > 0 || outages != ends {
			t.Errorf("%d lost; outage was reported %d times, its end %d times", stored, outages, ends)
		}
	})
}

// A mistake in the configuration costs a request for each login and period, and one warning.
func TestUpkeepWithAWrongSecret(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log bytes.Buffer
		f := newFleet(t)
		f.log = slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})
		f.login(50)
		f.provider.fault = func(string) *transport.Error {
			return &transport.Error{Kind: transport.ErrMisconfigured, Op: "refresh", Status: 401, Code: "invalid_client"}
		}
		p, _ := f.pool()
		stop := f.keepFresh(p)
		time.Sleep(2*short + short/24)
		if n := f.provider.count(time.Time{}); n < 50 || n > 101 {
			t.Errorf("%d token requests in two periods for fifty logins", n)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "invalid_client") {
			t.Errorf("%d warnings, want 1:\n%s", n, log.String())
		}
		if n := resident(p); n > 0 {
			t.Errorf("%d logins stay in memory", n)
		}
		stop()
	})
}

// A login whose access token never expires is renewed too, in a Pool and as a Source, for it is
// the refresh token that dies; and not more often than that takes.
func TestUpkeepOfTokensThatStayGood(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.provider.life = 1000 * short
		f.login(2)
		p, r := f.pool()
		if _, err := p.Source("account 0").Token(t.Context()); err != nil { // It is in memory then.
			t.Fatal(err)
		}
		defer f.keepFresh(p)()
		cfg := *p.Cfg()
		cfg.Refresher, cfg.Key.Account = r, "single"
		single, err := transport.NewSource(cfg)
		if err != nil {
			t.Fatal(err)
		}
		f.save(single.Key(), f.provider.login("single"))
		stopped := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { stopped <- single.KeepFresh(ctx) }()
		time.Sleep(20 * short)
		cancel()
		<-stopped
		if lost := f.lost(); lost > 0 {
			t.Errorf("%d logins were lost", lost)
		}
		if n := f.provider.count(time.Time{}); n < 3*19 || n > 3*20 {
			t.Errorf("%d token requests in 20 periods for three logins", n)
		}
		for _, s := range []*transport.Source{single, p.Source("account 0")} {
			if cur := s.Cur().Load().Rec(); cur.Generation < 19 {
				t.Errorf("%q: generation %d is in use", s.Account(), cur.Generation)
			}
		}
	})
}

// A request that comes while upkeep renews the login joins that refresh, and the login stays in
// memory then; and Close waits for a renewal.
func TestUpkeepAndRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.provider.latency = 3 * time.Second
		f.login(1)
		p, r := f.pool()
		ctx, cancel := context.WithCancel(t.Context())
		go p.KeepFresh(ctx)
		for r.now.Load() == 0 {
			time.Sleep(time.Second)
		}
		if resident(p) > 0 {
			t.Error("a login that nobody uses is in memory")
		}
		tok, err := p.Source("account 0").Token(t.Context())
		if err != nil || tok.AccessToken != "a"+f.provider.current["account 0"] || f.provider.count(time.Time{}) != 1 {
			t.Errorf("%v, after %d requests", err, f.provider.count(time.Time{}))
		}
		if resident(p) != 1 {
			t.Error("a login that is used is not in memory")
		}
		cancel()
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}

		q, r := f.pool()
		ctx, cancel = context.WithCancel(t.Context())
		go q.KeepFresh(ctx)
		for r.now.Load() == 0 {
			time.Sleep(time.Second)
		}
		cancel()
		if err := q.Close(t.Context()); err != nil || r.now.Load() > 0 || f.lost() > 0 {
			t.Errorf("Close: %v; %d requests in flight, %d logins lost", err, r.now.Load(), f.lost())
		}
		time.Sleep(time.Minute)
	})
}

// Where an access token is exchanged for its successor, its life says when, not upkeep.
func TestUpkeepOfExchangedTokens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.provider.life, f.provider.idleTime, f.provider.exchange = 60*short, 60*short, true
		own := (&replica{disuse: f.provider}).Identity().Key
		own.Account = "ann"
		rec := f.provider.login("ann")
		f.save(own, rec)
		f.change = func(cfg *transport.PoolConfig) { cfg.Source.RenewEvery, cfg.Source.Lead = short, 20*short }
		p, _ := f.pool()
		defer f.keepFresh(p)()
		time.Sleep(39 * short)
		if n := f.provider.count(time.Time{}); n > 0 {
			t.Errorf("%d token requests in two thirds of the life", n)
		}
		time.Sleep(8 * short)
		if n := f.provider.count(time.Time{}); n != 1 || f.provider.refusals > 0 {
			t.Errorf("%d token requests after two thirds, want 1", n)
		}
	})
}

// A store that cannot list its entries is no reason not to keep fresh what is in memory: the log
// says once what is missing.
func TestUpkeepNeedsAList(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log bytes.Buffer
		f := newFleet(t)
		f.store = mute{new(tokencache.Memory)}
		f.log = slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})
		f.login(1)
		p, _ := f.pool()
		if _, err := p.Source("account 0").Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop := f.keepFresh(p)
		time.Sleep(short)
		stop()
		if n := f.provider.count(time.Time{}); n < 10 || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "cannot list") {
			t.Errorf("%d token requests; the log: %s", n, log.String())
		}
	})
}

// A mute store lists nothing.
type mute struct{ tokencache.Store }

func (mute) Confidential() bool { return true }

// A switched store can be off.
type switched struct {
	*tokencache.Memory
	off atomic.Bool
}

func (s *switched) out() error {
	if s.off.Load() {
		return fmt.Errorf("%w: it is off", tokencache.ErrUnavailable)
	}
	return nil
}

func (s *switched) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	if err := s.out(); err != nil {
		return nil, "", err
	}
	return s.Memory.Load(ctx, name)
}

func (s *switched) ListIdle(ctx context.Context, before time.Time) iter.Seq2[string, error] {
	if err := s.out(); err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return s.Memory.ListIdle(ctx, before)
}
