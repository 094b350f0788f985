package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
	"github.com/stayauth/stayauth/tokencache/redisstore"
	"github.com/stayauth/stayauth/transport"
)

// A rotation's share of the store is how long logins take to be renewed if the provider takes no
// time. It is measured beside the least that a durable store can need, in the same round, and
// told as medians of the rounds:
//
//	go test -run '^$' -bench Share -benchtime 7x -args -plot share.svg
//
// What a durable write takes depends on the disk; -slower 100us makes each sync of a disk that is
// too fast to be of interest take that much longer.
//
// On a machine that does anything else, only the ratios say something, and those of p99 nothing.

var (
	plotOfShare = flag.String("plot", "", "the file for a plot of BenchmarkShare")
	slower      = flag.Duration("slower", 0, "how much longer each sync of the disk takes in BenchmarkShare, for which it needs cc")
)

// shareWorkers is how many workers renew logins at the same time, and how many clients write.
var shareWorkers = []int{1, 2, 4, 8}

func BenchmarkShare(b *testing.B) {
	c := chart{
		title: "Durable writes, and rotations of a refresh token, per second",
		x:     axis{label: "workers at the same time", min: 0, max: 8},
		y:     axis{log: true, min: 500, max: 50_000},
	}
	if *slower > 0 {
		slowDown(b)
	}
	b.Run("PostgreSQL", func(b *testing.B) { sharePostgreSQL(b, &c) })
	b.Run("Redis", func(b *testing.B) { shareRedis(b, &c) })
	if *plotOfShare == "" || b.Failed() {
		return
	}
	if err := os.WriteFile(*plotOfShare, []byte(c.svg()), 0o644); err != nil {
		b.Fatal(err)
	}
}

// slowDown makes the servers that are started from now on see a slower disk.
func slowDown(b *testing.B) {
	dir, err := os.MkdirTemp("", "")
	if err == nil {
		b.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755) // The servers have a user of their own.
	}
	if err != nil {
		b.Fatal(err)
	}
	source, library := filepath.Join(dir, "slow.c"), filepath.Join(dir, "slow.so")
	err = os.WriteFile(source, fmt.Appendf(nil, `#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int fdatasync(int fd) {
	struct timespec longer = {%d, %d};
	nanosleep(&longer, 0);
	return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
`, *slower/time.Second, *slower%time.Second), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	b.Setenv("LD_PRELOAD", library)
}

// sharePostgreSQL compares with what pgbench makes of the same server, by updates of one
// row that are prepared.
func sharePostgreSQL(b *testing.B, c *chart) {
	server := realparts.StartPostgreSQL(b)
	s, err := pgstore.Open(pgstore.Config{DSN: server.URL("pool_max_conns=16")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	server.Run("psql", "-q", "-c", `CREATE TABLE floor (id integer PRIMARY KEY, data bytea) WITH (fillfactor = 70);
		INSERT INTO floor SELECT i, convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(0, 7) i`)
	script := filepath.Join(server.Dir, "update.sql")
	if err := os.WriteFile(script, []byte("UPDATE floor SET data = convert_to(repeat('y', 1000), 'UTF8') WHERE id = :client_id;\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	tps, logs := regexp.MustCompile(`tps = ([0-9.]+)`), filepath.Join(server.Dir, "updates")
	c.series = append(c.series, share(b, s, "PostgreSQL", "updates", func(clients int) (perSec, tail float64) {
		out := server.Run("pgbench", "-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), "-T", "1",
			"-l", "--log-prefix", logs, "-f", script, "postgres")
		if found := tps.FindStringSubmatch(out); found != nil {
			perSec, _ = strconv.ParseFloat(found[1], 64)
		}
		return perSec, logged(b, logs)
	})...)
}

// logged returns p99 ÷ p50 of what pgbench has logged, and removes that.
func logged(b *testing.B, prefix string) float64 {
	names, err := filepath.Glob(prefix + ".*") // one of each thread
	if err != nil || len(names) == 0 {
		b.Fatalf("pgbench has logged nothing: %v", err)
	}
	var took []float64
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		os.Remove(name)
		for line := range strings.Lines(string(data)) {
			var client, transaction int
			var µs float64
			if _, err := fmt.Sscan(line, &client, &transaction, &µs); err != nil {
				b.Fatal(err)
			}
			took = append(took, µs)
		}
	}
	slices.Sort(took)
	return quantile(took, 0.99) / quantile(took, 0.5)
}

// shareRedis compares with what redis-benchmark makes of the same server, by a SET that
// is on the disk when it is answered.
func shareRedis(b *testing.B, c *chart) {
	server := realparts.StartRedis(b)
	program, err := exec.LookPath("redis-benchmark")
	realparts.Require(b, "redis-benchmark (Debian: apt-get install redis-tools)", err)
	s, err := redisstore.Open(redisstore.Config{URL: server.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	c.series = append(c.series, share(b, s, "Redis", "SETs", func(clients int) (perSec, tail float64) {
		out, err := exec.Command(program, "-p", strconv.Itoa(server.Port), "-t", "set", "-d", "1000", "-r", "8", "--csv",
			"-c", strconv.Itoa(clients), "-n", strconv.Itoa(2000+1500*clients)).Output()
		if err != nil {
			b.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if fields := strings.Split(line, `","`); fields[0] == `"SET` { // test, rps, average, least, p50, p95, p99, most
				perSec, _ = strconv.ParseFloat(fields[1], 64)
				p50, _ := strconv.ParseFloat(fields[4], 64)
				p99, _ := strconv.ParseFloat(fields[6], 64)
				tail = p99 / p50
			}
		}
		return perSec, tail
	})...)
}

// share measures the share of a store. floor returns how many durable writes clients that take
// turns, or one alone, make in a second, and p99 ÷ p50 of them.
func share(b *testing.B, s tokencache.Store, name, writes string, floor func(clients int) (perSec, tail float64)) []series {
	c, err := tokencache.New(s, tokencache.KeyBytes([]byte(strings.Repeat("1", 32))))
	if err != nil {
		b.Fatal(err)
	}
	logins := make([]*transport.Source, slices.Max(shareWorkers))
	for i := range logins {
		logins[i] = expiring(b, c, i)
	}
	rotateFor(b, logins, 300*time.Millisecond) // Connections are made, and plans.
	metrics := map[string][]float64{}
	for b.Loop() {
		for _, workers := range shareWorkers {
			least, tail := floor(workers)
			took, perSec := rotateFor(b, logins[:workers], time.Second)
			p50 := quantile(took, 0.5)
			for unit, value := range map[string]float64{
				"ms": 1000 * p50, "p99/p50": quantile(took, 0.99) / p50, "per-s": perSec,
				"p50/floor": p50 * least, "per-s/floor": perSec / least, "floor-per-s": least, "floor-p99/p50": tail,
			} {
				unit = fmt.Sprint(workers, "-", unit)
				metrics[unit] = append(metrics[unit], value)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // A round takes as long as it is told to.
	for unit, values := range metrics {
		b.ReportMetric(Median(values), unit)
	}
	line := func(what, unit string) series {
		l := series{name: name + ": " + what, dots: true}
		for _, workers := range shareWorkers {
			l.points = append(l.points, point{float64(workers), Median(metrics[fmt.Sprint(workers, "-", unit)])})
		}
		return l
	}
	return []series{line(writes, "floor-per-s"), line("rotations", "per-s")}
}

// rotateFor renews the logins for a while, each as fast as it can be, and returns how many
// seconds that took each time, in order, and how often it was done in a second.
func rotateFor(b *testing.B, logins []*transport.Source, length time.Duration) (took []float64, perSec float64) {
	all := make([][]float64, len(logins))
	var work sync.WaitGroup
	begun := time.Now()
	for i, login := range logins {
		work.Go(func() {
			for at := time.Now(); at.Sub(begun) < length; {
				if _, err := login.Token(b.Context()); err != nil {
					b.Error(err)
					return
				}
				now := time.Now()
				all[i] = append(all[i], now.Sub(at).Seconds())
				at = now
			}
		})
	}
	work.Wait()
	elapsed := time.Since(begun).Seconds()
	took = slices.Concat(all...)
	slices.Sort(took)
	return took, float64(len(took)) / elapsed
}

// expiring returns a login whose tokens expire at once.
func expiring(b *testing.B, c *tokencache.Cache, i int) *transport.Source {
	b.Helper()
	key := tokencache.Key{Issuer: "https://issuer.test", ClientID: "app", Account: fmt.Sprint("user ", i)}
	s, err := transport.NewSource(transport.SourceConfig{Cache: c, Key: key, Refresher: new(prompt)})
	if err == nil {
		err = s.Login(b.Context(), expired(0))
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// A prompt provider answers at once, with tokens as long as those of real ones.
type prompt struct{ answers atomic.Uint64 }

func (*prompt) Identity() transport.Identity   { return transport.Identity{} }
func (*prompt) Check(*tokencache.Record) error { return nil }

func (p *prompt) Refresh(context.Context, *tokencache.Record) (*tokencache.Record, error) {
	return expired(p.answers.Add(1)), nil
}

func expired(n uint64) *tokencache.Record {
	now := time.Now()
	return &tokencache.Record{AccessToken: tokencache.Secret(fmt.Sprintf("%0600d", n)), RefreshToken: tokencache.Secret(fmt.Sprintf("%0100d", n)),
		TokenType: "Bearer", ObtainedAt: now, Expiry: now.Add(time.Microsecond)}
}
