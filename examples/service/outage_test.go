package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
)

var outageTime time.Duration

func init() {
	flag.DurationVar(&outageTime, "outage", 0, "how long the store is out in TestOutage; 0 is a short while, and fewer kinds")
}

// recovery is how soon after an outage of the store all requests are served again, and patience
// is for a machine that has much else to do.
const recovery, patience = 5 * time.Second, 30 * time.Second

// The store is restarted, fails over, or is set up as many are, under load, while a
// provider that forgives nothing takes its time to answer. No login is lost, no refresh
// token is presented twice, and the service is back soon after the store.
//
// They are short here, and not of all kinds: -args -outage 15s makes them as long, and
// tries all kinds.
func TestOutage(t *testing.T) {
	for _, test := range outages {
		times := test.times
		if outageTime > 0 {
			times = []time.Duration{outageTime}
		}
		for _, takes := range times {
			t.Run(fmt.Sprint(test.name, " for ", takes), func(t *testing.T) {
				t.Parallel()
				test.try(t, takes)
			})
		}
	}
}

func (test outageTest) try(t *testing.T, takes time.Duration) {
	o := size
	o.users, o.kill, o.latency, o.tokenLife = max(size.users, 20), 0, 2*time.Second, 8*time.Second
	before, after, recovery := 4*time.Second, time.Second, recovery
	out := test.start(t, takes)
	if out.loses {
		before = 10 * time.Second // until each login is in the memory of some replica
		recovery *= 3             // What was put back is not spent for some seconds.
	}
	o.store, o.session, o.confirm = out.store, out.session, out.confirm
	var begun, over, good time.Time
	o.during = func(s *swarm) {
		time.Sleep(before)
		begun = time.Now()
		out.begin(t)
		time.Sleep(takes)
		out.end(t)
		over = time.Now()
		time.Sleep(recovery + after)
		for !s.works(after, 2*o.latency) && time.Since(over) < patience {
			time.Sleep(after / 10)
		}
		good = time.Now().Add(-after)
	}
	proof, err := run(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(proof)
	if err := proof.check(); err != nil {
		t.Error(err)
	}
	last := time.Duration(0)
	for _, f := range proof.failures {
		if strings.Contains(f.text, "login required") {
			t.Errorf("%v after the outage somebody was told to log in: %s", f.at.Sub(over), f.text)
			continue
		}
		if last = max(last, f.at.Sub(over)); f.at.Before(begun) {
			t.Logf("%v before the outage: %s", begun.Sub(f.at), f.text) // TestService fails because of that.
		} else if f.at.After(good) {
			t.Errorf("%v after the outage: %s", f.at.Sub(over), f.text)
		}
	}
	t.Logf("the last request that failed ended %v after the outage", last.Round(10*time.Millisecond))
}

// works reports whether for some time no request has failed, and none has been waiting for longer
// than it should.
func (s *swarm) works(quiet, longest time.Duration) bool {
	works := true
	s.asking.Range(func(_, since any) bool {
		works = time.Since(since.(time.Time)) < longest
		return works
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.failures {
		works = works && time.Since(f.at) >= quiet
	}
	return works
}

// An outage is a store and what happens to it.
type outage struct {
	store, session string
	confirm        int
	loses          bool // what it has confirmed
	begin, end     func(t *testing.T)
}

func restarted(store string, s server) outage {
	return outage{store: store, begin: func(*testing.T) { s.Stop() }, end: func(*testing.T) { s.Start() }}
}

type outageTest struct {
	name  string
	times []time.Duration // without -outage
	start func(t *testing.T, takes time.Duration) outage
}

var (
	none  []time.Duration
	short = []time.Duration{3 * time.Second}
	brief = []time.Duration{time.Second} // shorter than the provider takes
	both  = []time.Duration{time.Second, 3 * time.Second}
)

var outages = []outageTest{
	{"PostgreSQL is restarted", both, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartPostgreSQL(t, "max_connections=200")
		return restarted(s.URL("pool_max_conns=4"), s)
	}},
	{"PostgreSQL is switched over", short, func(t *testing.T, takes time.Duration) outage {
		a := realparts.StartPostgreSQL(t, "max_connections=200")
		b := a.StartStandby(t, "b", "max_connections=200")
		return outage{store: a.URLOfPrimary(b, "pool_max_conns=4"),
			begin: func(t *testing.T) {
				execute(t, a, `ALTER SYSTEM SET default_transaction_read_only = on`)
				execute(t, a, `SELECT pg_reload_conf()`)
			},
			end: func(t *testing.T) { execute(t, b, `SELECT pg_promote()`) },
		}
	}},
	{"Redis is restarted", brief, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartRedis(t)
		return restarted(s.URL(), s)
	}},

	{"PostgreSQL fails over to a synchronous standby", none, func(t *testing.T, takes time.Duration) outage {
		a := realparts.StartPostgreSQL(t, "max_connections=200", "synchronous_standby_names=b")
		b := a.StartStandby(t, "b", "max_connections=200")
		return outage{store: a.URLOfPrimary(b, "pool_max_conns=4"), begin: func(*testing.T) { a.Crash() }, end: func(t *testing.T) { execute(t, b, `SELECT pg_promote()`) }}
	}},
	{"PostgreSQL behind PgBouncer is restarted", none, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartPostgreSQL(t, "max_connections=200")
		o := restarted(s.StartPgBouncer(t), s)
		o.session = s.URL()
		return o
	}},
	{"PostgreSQL is serializable and impatient", none, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartPostgreSQL(t, "max_connections=200", "default_transaction_isolation=serializable", "statement_timeout=100ms")
		return restarted(s.URL("pool_max_conns=4"), s)
	}},
	{"PostgreSQL has no connection left", none, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartPostgreSQL(t, "max_connections=40")
		var others []*pgx.Conn
		return outage{store: s.URL("pool_max_conns=4"),
			begin: func(t *testing.T) {
				execute(t, s, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`)
				for {
					conn, err := pgx.Connect(context.Background(), s.URL())
					if err != nil {
						return
					}
					others = append(others, conn)
				}
			},
			end: func(*testing.T) {
				for _, conn := range others {
					conn.Close(context.Background())
				}
			},
		}
	}},
	{"Redis is full", none, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartRedis(t, "maxmemory-policy noeviction")
		return outage{store: s.URL(),
			begin: func(t *testing.T) { command(t, s, "CONFIG", "SET", "maxmemory", "1") },
			end:   func(t *testing.T) { command(t, s, "CONFIG", "SET", "maxmemory", "0") },
		}
	}},
	{"Redis ends all connections", none, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartRedis(t)
		kill := func(t *testing.T) { command(t, s, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") }
		return outage{store: s.URL(), begin: kill, end: kill}
	}},
	{"Redis fails over by Sentinel", short, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartRedis(t, "min-replicas-to-write 1", "min-replicas-max-lag 2")
		sentinel := realparts.StartSentinel(t, s, "logins", takes, s.StartReplica(t), s.StartReplica(t))
		return outage{store: fmt.Sprintf("redis-sentinel://127.0.0.1:%d/0?master_name=logins", sentinel.Port), confirm: 1,
			begin: func(*testing.T) { s.Crash() },
			end: func(t *testing.T) {
				sentinel.AwaitFailover(t)
				s.Start() // as a primary, until the sentinel has told it
			},
		}
	}},
	{"Redis Cluster loses a primary", short, func(t *testing.T, takes time.Duration) outage {
		nodes, url := realparts.StartRedisCluster(t, fmt.Sprint("cluster-node-timeout ", takes.Milliseconds()))
		replica := nodes[0].StartReplica(t)
		nodes[1].StartReplica(t)
		nodes[2].StartReplica(t)
		return outage{store: strings.Replace(url, "redis", "redis-cluster", 1), confirm: 1,
			begin: func(*testing.T) { nodes[0].Crash() },
			end: func(t *testing.T) {
				replica.AwaitInfo(t, "role:master")
				nodes[0].Start() // as a replica of its own, without which nothing is confirmed
			},
		}
	}},
	{"Redis is flushed", brief, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartRedis(t)
		return outage{store: s.URL(), loses: true, begin: func(t *testing.T) { command(t, s, "FLUSHALL") }, end: func(*testing.T) {}}
	}},
	{"Redis follows an empty primary and is promoted", none, func(t *testing.T, takes time.Duration) outage {
		s, empty := realparts.StartRedis(t), realparts.StartRedis(t)
		return outage{store: s.URL(), loses: true,
			begin: func(t *testing.T) { command(t, s, "REPLICAOF", "127.0.0.1", empty.Port) },
			end: func(t *testing.T) {
				s.AwaitInfo(t, "master_link_status:up")
				command(t, s, "REPLICAOF", "NO", "ONE")
			},
		}
	}},
	{"Redis evicts logins", none, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartRedis(t, "maxmemory-policy allkeys-random")
		return outage{store: s.URL(), loses: true,
			begin: func(t *testing.T) {
				client := redis.NewClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", s.Port)})
				defer client.Close()
				info := client.InfoMap(context.Background(), "memory").Val()["Memory"]
				used, _ := strconv.Atoi(info["used_memory"])
				command(t, s, "CONFIG", "SET", "maxmemory", used-50_000)
			},
			end: func(t *testing.T) {
				command(t, s, "CONFIG", "SET", "maxmemory", "0")
			},
		}
	}},
	{"PostgreSQL is emptied", brief, func(t *testing.T, takes time.Duration) outage {
		s := realparts.StartPostgreSQL(t, "max_connections=200")
		return outage{store: s.URL("pool_max_conns=4"), loses: true,
			begin: func(t *testing.T) {
				execute(t, s, `TRUNCATE stayauth_entries, stayauth_entries_locks, stayauth_entries_gone, stayauth_entries_uptime`)
			},
			end: func(*testing.T) {},
		}
	}},
	{"Redis Cluster is without a shard", short, func(t *testing.T, takes time.Duration) outage {
		nodes, url := realparts.StartRedisCluster(t)
		return restarted(strings.Replace(url, "redis", "redis-cluster", 1), nodes[0])
	}},
}

func execute(t *testing.T, s *realparts.PostgreSQL, sql string) {
	conn, err := pgx.Connect(context.Background(), s.URL())
	if err == nil {
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), sql)
	}
	if err != nil {
		t.Error(err)
	}
}

func command(t *testing.T, s *realparts.Redis, args ...any) {
	client := redis.NewClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", s.Port)})
	defer client.Close()
	if err := client.Do(context.Background(), args...).Err(); err != nil {
		t.Error(err)
	}
}
