package transport_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/upkeep"
)

// The month of 100 000 logins takes the better part of an hour, see CONTRIBUTING.
var (
	monthSpan     = flag.Duration("month", 5*time.Hour, "how long TestMonth lasts in its own time")
	monthLogins   = flag.Int("month-logins", 400, "how many logins it has")
	monthActive   = flag.Int("month-active", 200, "how many of them are used")
	monthReplicas = flag.Int("month-replicas", 3, "how many replicas the service has")
	monthSeed     = flag.Uint64("month-seed", 1, "of what happens")
	monthCSV      = flag.String("month-csv", "", "a file for the token requests of each minute")
)

// A month of a service whose provider fails for minutes and hours, that is deployed every day,
// whose database fails over, and whose replicas die in the middle of a refresh: no login is lost
// that could be kept, nearly no token request is made that was not needed, and when an outage is
// over they do not come all at once.
func TestMonth(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMonth(t, *monthLogins, *monthActive, *monthReplicas, *monthSpan)
		m.run()
		m.judge()
	})
}

func newMonth(t *testing.T, logins, active, replicas int, span time.Duration) *month {
	m := &month{t: t, provider: newMonthProvider(logins, span), store: newMonthStore(), span: span, active: active,
		chance: rand.New(rand.NewPCG(*monthSeed, 0)), replicas: make([]*monthReplica, replicas), events: map[transport.EventType]int{}}
	// Before it begins, upkeep has renewed each login at its time of the day.
	cache, err := tokencache.New(m.store.session(), nil)
	if err != nil {
		t.Fatal(err)
	}
	type renewal struct {
		login int
		key   tokencache.Key
		at    time.Time
	}
	var renewals []renewal
	for i := range logins {
		key := (&monthClient{}).Identity().Key
		key.Account = personName(i)
		renewals = append(renewals, renewal{i, key, upkeep.Next(key.Name(), day, time.Now().Add(-day))})
	}
	slices.SortFunc(renewals, func(a, b renewal) int { return a.at.Compare(b.at) })
	for _, r := range renewals {
		who := &m.provider.persons[r.login]
		who.made = r.at.Add(-time.Duration(m.draw(int64(25 * day))))
		rec := m.provider.issue(r.login, r.at)
		rec.LoginID, rec.AuthorizedAt = "login", who.made.Round(0)
		if _, err := cache.Save(t.Context(), r.key, rec, ""); err != nil {
			t.Fatal(err)
		}
		m.store.last.saved = r.at
	}
	return m
}

func (m *month) run() {
	ctx, cancel := context.WithCancel(context.Background())
	for i := range m.replicas {
		m.start(i)
	}
	go m.use(ctx)
	go m.every(ctx, day, func() { m.deploy(ctx) })
	go m.every(ctx, max(m.span/30, 2*time.Hour), m.kill)
	go m.every(ctx, max(m.span/10, time.Hour), m.failOver)
	modes := []string{answers503, unreachable, answers429}
	lengths := []time.Duration{5 * time.Minute, 20 * time.Minute, 90 * time.Minute, 10 * time.Minute, 45 * time.Minute, 6 * time.Hour}
	done := make(chan struct{})
	go func() {
		defer close(done)
		first := min(m.span/4, day+time.Duration(m.draw(int64(day))))
		if !pause(ctx, first) {
			return
		}
		for i := 0; ctx.Err() == nil; i++ {
			length := min(lengths[i%len(lengths)], m.span/10)
			m.fail(modes[i%len(modes)], length)
			pause(ctx, min(m.span/2, 18*time.Hour+time.Duration(m.draw(int64(18*time.Hour)))))
		}
	}()
	begun := time.Now()
	for elapsed := time.Duration(0); elapsed < m.span; elapsed = time.Since(begun) {
		time.Sleep(min(day, m.span-elapsed))
		m.tell()
		if *monthCSV != "" {
			m.herds(time.Since(begun))
			if err := os.WriteFile(*monthCSV, m.csv(), 0o644); err != nil {
				m.t.Error(err)
			}
		}
	}
	cancel()
	<-done
	for _, r := range m.running() {
		if !r.session.isDead() {
			if err := r.end(); err != nil {
				m.t.Errorf("Close: %v", err)
			}
		}
	}
	time.Sleep(time.Minute) // those that start
	for _, r := range m.running() {
		r.stop()
	}
	close(m.store.over)
	time.Sleep(time.Hour)
}

// tell logs how it goes.
func (m *month) tell() {
	memory := 0
	for _, r := range m.running() {
		memory += resident(r.pool)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.memory = max(m.memory, memory)
	p := m.provider
	p.mu.Lock()
	defer p.mu.Unlock()
	span := time.Since(p.begun)
	m.t.Logf("%v: %d requests (%.3f of the lives covered; %d failed; calls alone need %d), %d questions, %d calls (%d waited, failed: %d in outages, %d in failovers, %d else%s), %d in memory, ends: %v",
		span, p.requests, float64(p.requests)/p.covered, p.failed, p.least, p.asked, m.calls.Load(), m.waited.Load(), m.duringOutage.Load(), m.duringFailover.Load(), m.bad.Load(), m.lastFailure(), memory, p.ends)
	s := m.store
	m.t.Logf("  store: %.1f loads, %.1f saves, %.1f locks, %.2f lists (%.0f names) a second; %d deploys, %d kills, %d failovers; events %v",
		float64(s.loads.Load())/span.Seconds(), float64(s.saves.Load())/span.Seconds(), float64(s.locked.Load())/span.Seconds(), float64(s.lists.Load())/span.Seconds(), float64(s.listed.Load())/span.Seconds(), m.deploys, m.kills, m.fails, m.events)
}

// peak returns the most requests in any whole minute between two times.
func (m *month) peak(seconds []uint16, from, to time.Time) (most int) {
	for at := from; at.Before(to); at = at.Add(time.Second) {
		most = max(most, m.sum(seconds, at, time.Minute))
	}
	return most
}

// within returns how many requests there were in a span of time.
func (m *month) within(from time.Time, d time.Duration) (n int) {
	return m.sum(m.provider.seconds, from, d)
}

func (m *month) sum(seconds []uint16, from time.Time, d time.Duration) (n int) {
	first := max(int(from.Sub(m.provider.begun)/time.Second), 0)
	for _, k := range seconds[min(first, len(seconds)):min(first+int(d/time.Second), len(seconds))] {
		n += int(k)
	}
	return n
}

// herds logs how many requests came when the outages of the time so far were over. It returns the
// steady rate, per minute, and the highest rate after an outage of requests that no call waits
// for: those that one waits for depend on how many persons have come meanwhile.
func (m *month) herds(span time.Duration) (steady, highest float64) {
	m.mu.Lock()
	outages := slices.Clone(m.outages)
	m.mu.Unlock()
	p, calm, requests := m.provider, time.Duration(0), 0
	for at := p.begun; at.Before(p.begun.Add(span)); at = at.Add(time.Minute) {
		if !slices.ContainsFunc(outages, func(o monthOutage) bool {
			return at.After(o.begin.Add(-time.Minute)) && at.Before(o.end.Add(2*time.Hour))
		}) {
			calm += time.Minute
			requests += m.within(at, time.Minute)
		}
	}
	steady = float64(requests) / calm.Minutes()
	m.t.Logf("  steady: %.1f requests a minute, in %v without outages", steady, calm)
	for _, o := range outages {
		before := float64(m.within(o.begin.Add(-time.Hour), time.Hour)) / 60
		peak := m.peak(p.seconds, o.end, o.end.Add(2*time.Hour))
		unwanted := m.peak(p.unwanted, o.end, o.end.Add(2*time.Hour))
		highest = max(highest, float64(unwanted))
		m.t.Logf("  outage of %v (%s) after %v: busiest minute afterwards %d, %.2f of the mean, %.2f of the hour before; of those that no call waits for %d, %.2f of the mean; during it at most %d a minute",
			o.end.Sub(o.begin), o.mode, o.begin.Sub(p.begun), peak, float64(peak)/steady, float64(peak)/before, unwanted, float64(unwanted)/steady, m.peak(p.seconds, o.begin, o.end.Add(-time.Minute)))
	}
	return steady, highest
}

func (m *month) judge() {
	p := m.provider
	steady, highest := m.herds(m.span)
	if ratio := float64(p.requests) / p.covered; steady > 50 && (ratio > 1.05 || highest > 3*steady) { // With few, chance does more.
		m.t.Errorf("%.3f times the least requests, at most %.2f times as many as usual after an outage", ratio, highest/steady)
	}
	lost := 0
	for i := range p.persons {
		who := &p.persons[i]
		if who.ended == "" && !who.orphaned && time.Since(who.used) > who.idle {
			lost++
		}
	}
	if n := p.ends["reuse"] + p.ends["unused for too long"] + lost; n > 0 {
		m.t.Errorf("%d logins were lost: %v, %d of disuse", n, p.ends, lost)
	}
	if n := m.bad.Load(); n > 0 {
		m.t.Errorf("%d calls failed without a reason%s", n, m.lastFailure())
	}
}

func (m *month) lastFailure() string {
	if why := m.why.Load(); why != nil {
		return ", the last with " + *why
	}
	return ""
}

// csv lists the requests of each minute, and the outages.
func (m *month) csv() []byte {
	var b strings.Builder
	for _, o := range m.outages {
		fmt.Fprintf(&b, "outage,%d,%d,%s\n", int(o.begin.Sub(m.provider.begun).Minutes()), int(o.end.Sub(m.provider.begun).Minutes()), o.mode)
	}
	for i := range int(m.span.Minutes()) {
		at := m.provider.begun.Add(time.Duration(i) * time.Minute)
		fmt.Fprintf(&b, "%d,%d,%d\n", i, m.within(at, time.Minute), m.sum(m.provider.unwanted, at, time.Minute))
	}
	return []byte(b.String())
}
