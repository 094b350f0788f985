package transport_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// A month is a service of many replicas, what happens to it, and those who use it.
type month struct {
	t        *testing.T
	provider *monthProvider
	store    *monthStore
	span     time.Duration
	active   int // logins that are used; the first of them, a hundredth, by programs all day

	mu       sync.Mutex
	chance   *rand.Rand
	replicas []*monthReplica
	outages  []monthOutage
	events   map[transport.EventType]int
	deploys  int
	kills    int
	fails    int // failovers of the store
	upset    time.Time
	memory   int // most logins in the memory of all replicas

	calls, waited, logins             atomic.Int64
	duringOutage, duringFailover, bad atomic.Int64 // calls that failed
	why                               atomic.Pointer[string]
}

type monthOutage struct {
	mode       string
	begin, end time.Time
}

type monthReplica struct {
	pool    *transport.Pool
	client  *monthClient
	session *session
	stop    context.CancelFunc
	ended   chan struct{}
	leaving atomic.Bool // replaced: it gets no more calls
}

// draw returns a random number below n.
func (m *month) draw(n int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.chance.Int64N(n)
}

// start starts a replica in the place of the one at i.
func (m *month) start(i int) {
	s := m.store.session()
	cache, err := tokencache.New(s, nil)
	if err != nil {
		panic(err)
	}
	client := &monthClient{monthProvider: m.provider, session: s, chance: rand.New(rand.NewPCG(uint64(m.draw(math.MaxInt64)), 0))}
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{
		Cache: cache, Refresher: client, Logger: slog.New(slog.DiscardHandler),
		OnEvent: func(_ context.Context, e transport.Event) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.events[e.Type]++
		},
	}})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &monthReplica{pool: pool, client: client, session: s, stop: cancel, ended: make(chan struct{})}
	client.die = func() {
		s.die()
		cancel()
		go func() { // The platform starts another one.
			time.Sleep(20 * time.Second)
			m.start(i)
		}()
	}
	m.mu.Lock()
	m.replicas[i] = r
	m.mu.Unlock()
	go func() {
		defer close(r.ended)
		// Only one watches for losses, of which there are none: each would read 6400 records
		// an hour.
		if i == 0 {
			pool.KeepFresh(ctx)
		} else {
			pool.KeepFreshUnwatched(ctx)
		}
	}()
}

// running returns the present replicas.
func (m *month) running() []*monthReplica {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.replicas)
}

// end ends a replica in good order: its last calls have ended by then.
func (r *monthReplica) end() error {
	r.leaving.Store(true)
	time.Sleep(30 * time.Second)
	r.stop()
	<-r.ended
	return r.pool.Close(context.Background())
}

// deploy replaces all replicas, one after the other.
func (m *month) deploy(ctx context.Context) {
	for i := range m.replicas {
		m.mu.Lock()
		old := m.replicas[i]
		m.mu.Unlock()
		if !old.session.isDead() {
			m.start(i)
			go func() {
				if err := old.end(); err != nil && !old.session.isDead() {
					m.t.Errorf("Close: %v", err)
				}
			}()
		}
		if !pause(ctx, time.Minute) {
			return
		}
	}
	m.mu.Lock()
	m.deploys++
	m.mu.Unlock()
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// every calls f again and again, at random times with a mean distance.
func (m *month) every(ctx context.Context, mean time.Duration, f func()) {
	for pause(ctx, mean/2+time.Duration(m.draw(int64(mean)))) {
		f()
	}
}

// kill lets a replica die in the middle of a refresh.
func (m *month) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.replicas[m.chance.IntN(len(m.replicas))]
	r.client.mu.Lock()
	defer r.client.mu.Unlock()
	r.client.doomed = true
	m.kills++
}

// failOver takes the store away for some seconds.
func (m *month) failOver() {
	m.store.down.Store(true)
	time.Sleep(5*time.Second + time.Duration(m.draw(int64(35*time.Second))))
	m.store.down.Store(false)
	m.mu.Lock()
	m.fails++
	m.upset = time.Now()
	m.mu.Unlock()
}

// fail lets the provider be down for a time.
func (m *month) fail(mode string, d time.Duration) {
	o := monthOutage{mode: mode, begin: time.Now()}
	m.provider.setMode(mode)
	time.Sleep(d)
	m.provider.setMode("")
	o.end = time.Now()
	m.mu.Lock()
	m.outages = append(m.outages, o)
	m.mu.Unlock()
}

// call is a call by a person at a random replica.
func (m *month) call(i int) error {
	return m.callAt(m.any(), i)
}

// any returns a random replica.
func (m *month) any() *monthReplica {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.replicas[m.chance.IntN(len(m.replicas))]
}

func (m *month) callAt(r *monthReplica, i int) error {
	for tries := 0; r.leaving.Load() || r.session.isDead(); tries++ { // The load balancer knows.
		if tries == 60 {
			return nil // The month is over.
		}
		r = m.any()
		time.Sleep(time.Second)
	}
	begun := time.Now()
	m.calls.Add(1)
	m.provider.calls(i, 1)
	_, err := r.pool.Source(personName(i)).Token(context.Background())
	m.provider.calls(i, -1)
	switch {
	case err == nil:
		m.provider.called(i)
		if time.Since(begun) > 0 {
			m.waited.Add(1)
		}
	case r.session.isDead():
	case errors.Is(err, transport.ErrLoginRequired):
		m.logins.Add(1)
		rec := m.provider.login(i, time.Now())
		if err := r.pool.Source(personName(i)).Login(context.Background(), rec); err != nil {
			m.t.Errorf("Login: %v", err)
		}
	default:
		m.failed(err)
	}
	return err
}

// failed counts a call that has failed, by what is wrong.
func (m *month) failed(err error) {
	m.provider.mu.Lock()
	mode := m.provider.mode
	m.provider.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	lately := len(m.outages) > 0 && time.Since(m.outages[len(m.outages)-1].end) < transport.LongestPause+10*time.Second // of a provider that had enough
	switch {
	case m.store.down.Load() || time.Since(m.upset) < 15*time.Second:
		m.duringFailover.Add(1)
	case mode != "" || lately:
		m.duringOutage.Add(1)
	default:
		m.bad.Add(1)
		text := err.Error()
		m.why.Store(&text)
	}
}

// visit is a person who works for some minutes, at one replica, and tries again what has failed.
func (m *month) visit(ctx context.Context, i int) {
	r, calls := m.any(), 1+m.draw(8)
	for tries := 0; calls > 0 && tries < 16; tries++ {
		if m.callAt(r, i) == nil {
			calls--
		}
		if !pause(ctx, 10*time.Second+time.Duration(m.draw(int64(2*time.Minute)))) {
			return
		}
	}
}

// use is what persons and programs do all day: each of the active has two visits a day, most of
// them in the afternoon.
func (m *month) use(ctx context.Context) {
	busy := m.active / 100
	for i := range busy {
		go func() {
			for pause(ctx, time.Minute+time.Duration(m.draw(int64(2*time.Minute)))) {
				m.call(i)
			}
		}()
	}
	for {
		now := time.Now()
		hour := float64(now.Hour()) + float64(now.Minute())/60
		visits := 2 * float64(m.active-busy) / (24 * 60) * (1 + .8*math.Cos((hour-14)/12*math.Pi))
		next := time.Duration(-math.Log(1-float64(m.draw(1<<50))/(1<<50)) / visits * float64(time.Minute))
		if !pause(ctx, next) {
			return
		}
		go m.visit(ctx, busy+int(m.draw(int64(m.active-busy))))
	}
}
