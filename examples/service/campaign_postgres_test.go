package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
)

var campaigns = []campaignCase{
	{"PostgreSQL, synchronous", true, func(t *testing.T) site {
		p := startPair(t, true)
		return site{store: p.primary.URLOfPrimary(p.standby, "pool_max_conns=4"), troubles: p.troubles()}
	}},
	{"PostgreSQL, asynchronous", false, func(t *testing.T) site {
		p := startPair(t, false)
		return site{store: p.primary.URLOfPrimary(p.standby, "pool_max_conns=4"), troubles: append(p.troubles(), p.lagging()), forgets: true}
	}},
	{"PostgreSQL, synchronous, PgBouncer", false, func(t *testing.T) site {
		p := startPair(t, true)
		p.proxy = realparts.StartProxy(t, p.primary.Port)
		return site{store: p.primary.StartPgBouncerTo(t, p.proxy.Port), session: p.primary.URLOfPrimary(p.standby), troubles: p.troubles()}
	}},
	{"PostgreSQL, synchronous, partitions", false, func(t *testing.T) site {
		p := startPair(t, true)
		n := newPartitions(t, p)
		return site{store: p.primary.URLOfPrimary(p.standby), place: n.place, troubles: n.troubles()}
	}},
	{"Redis Sentinel, confirmed", false, func(t *testing.T) site { return sentinelSite(t, 1) }},
	{"Redis Sentinel, unconfirmed", false, func(t *testing.T) site { return sentinelSite(t, 0) }},
	{"Redis Cluster, confirmed", false, func(t *testing.T) site { return clusterSite(t, 1) }},
	{"Redis Cluster, unconfirmed", false, func(t *testing.T) site { return clusterSite(t, 0) }},
}

// A pair is a primary and its standby, which change places.
type pair struct {
	primary, standby *realparts.PostgreSQL
	synchronous      bool
	proxy            *realparts.Proxy // leads to the primary; nil: there is none
}

func startPair(t *testing.T, synchronous bool) *pair {
	settings := []string{"max_connections=200", "wal_writer_delay=10s"} // A crash takes whatever nobody waits for.
	p := &pair{primary: realparts.StartPostgreSQL(t, settings...), synchronous: synchronous}
	p.standby = p.primary.StartStandby(t, "other", settings...)
	p.pairUp(t)
	return p
}

// pairUp waits until the standby has all that the primary has.
func (p *pair) pairUp(t *testing.T) {
	state := "async"
	if p.synchronous {
		state = "sync"
		execute(t, p.primary, `ALTER SYSTEM SET synchronous_standby_names = '*'`)
		execute(t, p.primary, `SELECT pg_reload_conf()`)
	}
	const replicating = `SELECT count(*) FROM pg_stat_replication WHERE application_name = 'other' AND state = 'streaming' AND sync_state = $1 AND replay_lsn >= pg_current_wal_flush_lsn() - 1000000::numeric`
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		n := 0
		conn, err := pgx.Connect(context.Background(), p.primary.URL())
		if err == nil {
			err = conn.QueryRow(context.Background(), replicating, state).Scan(&n)
			conn.Close(context.Background())
		}
		if n > 0 {
			return
		}
		if time.Since(begun) > patience {
			t.Errorf("the standby does not replicate: %v", err)
			return
		}
	}
}

// change makes the standby the primary, and the former primary, which has to be dead by now, the
// standby.
func (p *pair) change(t *testing.T, r *rand.Rand, until func()) {
	if p.synchronous && r.IntN(2) == 0 { // The new primary waits for nobody, until it has a standby.
		execute(t, p.standby, `ALTER SYSTEM RESET synchronous_standby_names`)
	}
	p.standby.Promote()
	if p.proxy != nil {
		p.proxy.To(p.standby.Port)
	}
	until()
	p.primary.Follow(p.standby, "other")
	p.primary, p.standby = p.standby, p.primary
	p.pairUp(t)
}

func upTo(r *rand.Rand, most time.Duration) func() {
	d := time.Duration(r.Int64N(int64(most)))
	return func() { time.Sleep(d) }
}

func (p *pair) troubles() []trouble {
	return []trouble{
		{"the primary crashes", func(t *testing.T, r *rand.Rand, c *campaign) {
			notice, repair := upTo(r, 5*time.Second), upTo(r, 3*time.Second)
			p.primary.Crash()
			notice()
			p.change(t, r, repair)
		}},
		{"the primary is switched over", func(t *testing.T, r *rand.Rand, c *campaign) {
			notice, repair := upTo(r, 2*time.Second), upTo(r, 5*time.Second)
			execute(t, p.primary, `ALTER SYSTEM SET default_transaction_read_only = on`)
			execute(t, p.primary, `SELECT pg_reload_conf()`)
			notice()
			p.change(t, r, func() {
				repair()
				p.primary.Stop()
			})
		}},
		{"the primary is restarted", func(t *testing.T, r *rand.Rand, c *campaign) {
			repair := upTo(r, 3*time.Second)
			p.primary.Stop()
			repair()
			p.primary.Start()
			p.pairUp(t)
		}},
	}
}

// lagging crashes the primary when the standby has not got the newest of what it has confirmed.
func (p *pair) lagging() trouble {
	return trouble{"the primary crashes and the standby lags", func(t *testing.T, r *rand.Rand, c *campaign) {
		lag, notice, repair := upTo(r, 2*time.Second), upTo(r, 5*time.Second), upTo(r, 3*time.Second)
		execute(t, p.standby, `ALTER SYSTEM SET primary_conninfo = ''`)
		execute(t, p.standby, `SELECT pg_reload_conf()`)
		lag()
		p.primary.Crash()
		notice()
		p.change(t, r, repair)
	}}
}

// partitions are two networks through which two halves of the replicas reach a pair.
type partitions struct {
	pair   *pair
	halves [2]half
}

type half struct {
	network *realparts.Network
	proxies map[*realparts.PostgreSQL]*realparts.Proxy
	store   string
}

func newPartitions(t *testing.T, p *pair) *partitions {
	n := &partitions{pair: p}
	for i := range n.halves {
		h := &n.halves[i]
		h.network = realparts.NewNetwork(t)
		h.proxies = map[*realparts.PostgreSQL]*realparts.Proxy{p.primary: h.network.StartProxy(p.primary.Port), p.standby: h.network.StartProxy(p.standby.Port)}
		h.store = fmt.Sprintf("postgres://postgres@%s:%d,%[1]s:%[3]d/postgres?pool_max_conns=4&target_session_attrs=read-write&sslmode=disable",
			h.network.Far, h.proxies[p.primary].Port, h.proxies[p.standby].Port)
	}
	return n
}

// place sends each other replica through the one network.
func (n *partitions) place(c *config) { c.Store = n.halves[c.Replica%2].store }

// cut cuts half of the replicas off from a server, and returns what ends that.
func (n *partitions) cut(t *testing.T, half int, server *realparts.PostgreSQL) (mend func()) {
	h := n.halves[half]
	port := h.proxies[server].Port
	if err := h.network.Cut(port); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := h.network.Mend(port); err != nil {
			t.Error(err)
		}
	}
}

// absent notes that half of the replicas are cut off from the primary.
func (n *partitions) absent(c *campaign, half int) {
	c.swarm.mu.Lock()
	replicas := c.swarm.replicas
	c.swarm.mu.Unlock()
	for _, r := range replicas {
		if r.number%2 == half {
			c.cutOff(r.number)
		}
	}
}

func (n *partitions) troubles() []trouble {
	p := n.pair
	cutFor := func(least, most time.Duration) func(t *testing.T, r *rand.Rand, c *campaign) {
		return func(t *testing.T, r *rand.Rand, c *campaign) {
			half, d := r.IntN(2), least+time.Duration(r.Int64N(int64(most-least)))
			mend := n.cut(t, half, p.primary)
			n.absent(c, half)
			time.Sleep(d)
			mend()
			c.back()
		}
	}
	return append(p.troubles(),
		trouble{"half of the replicas are cut off for a moment", cutFor(time.Second, 8*time.Second)},
		trouble{"half of the replicas are cut off", cutFor(15*time.Second, 30*time.Second)},
		trouble{"the primary is gone without a trace", func(t *testing.T, r *rand.Rand, c *campaign) {
			notice, repair := upTo(r, 5*time.Second), upTo(r, 10*time.Second)
			var mend []func()
			for half := range n.halves {
				mend = append(mend, n.cut(t, half, p.primary))
			}
			notice()
			p.change(t, r, func() {
				repair()
				p.primary.Crash()
				for _, f := range mend {
					f()
				}
			})
		}},
		trouble{"the network is split, and both servers have clients", func(t *testing.T, r *rand.Rand, c *campaign) {
			lonely, notice, repair := r.IntN(2), upTo(r, 5*time.Second), upTo(r, 10*time.Second)
			mend := []func(){n.cut(t, lonely, p.standby), n.cut(t, 1-lonely, p.primary)}
			execute(t, p.standby, `ALTER SYSTEM SET primary_conninfo = ''`)
			execute(t, p.standby, `SELECT pg_reload_conf()`)
			notice()
			n.absent(c, lonely)
			p.change(t, r, func() {
				repair()
				p.primary.Crash()
				for _, f := range mend {
					f()
				}
			})
			c.back()
		}},
	)
}
