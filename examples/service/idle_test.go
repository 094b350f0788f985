package main

import (
	"context"
	"encoding/base32"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/tokencache"
)

// What README.md says takes a quarter of an hour: -idle-rows 1000000
var idleRowsFlag = flag.Int("idle-rows", 2400, "how many logins the stores of TestIdlePass hold")

// idleAge is how long a login was not renewed that a pass has to find.
const idleAge = 24 * time.Hour

// An idleStore is a full store of which the test decides what is idle.
type idleStore struct {
	name  string
	cache *tokencache.Cache
	pid   int                  // of its server; 0: it has none
	age   func(n int)          // makes n logins idle that were not
	other func() (name string) // changes the store, once all was measured; nil: nothing
}

// TestIdlePass measures what it costs a replica to go through all logins for those that nobody
// has renewed for a day, and to read these or none of them: the processor time of both sides, and
// the memory.
func TestIdlePass(t *testing.T) {
	for _, fill := range []func(*testing.T, int) *idleStore{idleOnPostgreSQL, idleOnRedis, idleInDir} {
		s := fill(t, *idleRowsFlag)
		s.pass(t, false, -1) // The first pass may complete an index.
		idle := 0
		for _, want := range []int{0, *idleRowsFlag / 100, *idleRowsFlag / 24} {
			s.age(want - idle)
			idle = want
			s.pass(t, true, want)
		}
		s.pass(t, false, idle)
		if s.other != nil {
			s.name = s.other()
			s.pass(t, false, idle)
		}
	}
}

// pass goes through the store once, and expects so many idle logins, if not negative. It may open
// them or only see their names.
func (s *idleStore) pass(t *testing.T, open bool, want int) {
	t.Helper()
	runtime.GC()
	var peak atomic.Uint64
	base := heap()
	stop := make(chan struct{})
	go func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-tick.C:
				peak.Store(max(peak.Load(), heap()))
			case <-stop:
				return
			}
		}
	}()
	server, client, begun := processTime(t, s.pid), ownTime(t), time.Now()
	found, opened := 0, 0
	for _, err := range s.cache.Idle(t.Context(), time.Now().Add(-idleAge), func(string) bool { found++; return open }) {
		if err != nil {
			t.Fatal(err)
		}
		opened++
	}
	took := time.Since(begun)
	client, server = ownTime(t)-client, processTime(t, s.pid)-server
	close(stop)
	fmt.Fprintf(t.Output(), "%-28s %8d of %d idle, %6d opened: %7.2f s, client %7.2f s, server %7.2f s of processor time, %5.1f MB of heap\n",
		s.name, found, *idleRowsFlag, opened, took.Seconds(), client.Seconds(), server.Seconds(), float64(max(peak.Load(), base)-base)/1e6)
	if want >= 0 && found != want || open && opened != found {
		t.Errorf("%s: %d logins are idle, and %d were opened, want %d", s.name, found, opened, want)
	}
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func ownTime(t *testing.T) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// processTime returns the processor time of a process, of its children, and of those that have
// ended.
func processTime(t *testing.T, pid int) (sum time.Duration) {
	if pid == 0 {
		return 0
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file)                  // It may have ended.
		_, rest, _ := strings.Cut(string(text), ") ") // the command may contain spaces
		fields := strings.Fields(rest)                // from the third one of proc(5)
		number := func(i int) (n int) { n, _ = strconv.Atoi(fields[i-3]); return n }
		const tick = 10 * time.Millisecond
		switch {
		case len(fields) < 15:
		case filepath.Base(filepath.Dir(file)) == strconv.Itoa(pid):
			sum += time.Duration(number(14)+number(15)+number(16)+number(17)) * tick
		case number(4) == pid:
			sum += time.Duration(number(14)+number(15)) * tick
		}
	}
	return sum
}

func idleOnPostgreSQL(t *testing.T, n int) *idleStore {
	url, _ := fillPostgreSQL(t, n)
	query := func(sql string, args ...any) (text string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), strings.Replace(url, "pool_max_conns=4&", "", 1))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if err := conn.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil && err != pgx.ErrNoRows {
			t.Fatal(err)
		}
		return text
	}
	pid, _, _ := strings.Cut(query(`SELECT pg_read_file('postmaster.pid')`), "\n")
	s := &idleStore{name: "PostgreSQL", cache: openCache(t, url)}
	s.pid, _ = strconv.Atoi(pid)
	s.age = func(n int) {
		query(`WITH aged AS (UPDATE stayauth_entries SET saved = saved - interval '2 days', saved_span = saved_span - 8 WHERE name IN (
			SELECT name FROM stayauth_entries WHERE saved > now() - interval '1 day' ORDER BY name LIMIT $1) RETURNING 1)
			SELECT count(*)::text FROM aged`, n)
		query(`VACUUM ANALYZE stayauth_entries`)
	}
	s.other = func() string {
		query(`DROP INDEX stayauth_entries_saved`)
		return "PostgreSQL without the index"
	}
	return s
}

func idleOnRedis(t *testing.T, n int) *idleStore {
	url, _ := fillRedis(t, n)
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	info, err := client.InfoMap(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	s := &idleStore{name: "Redis", cache: openCache(t, url)}
	s.pid, _ = strconv.Atoi(info["Server"]["process_id"])
	saved := false
	s.age = func(n int) {
		// The index that the first pass has made does not know when anything was saved.
		pipe := client.Pipeline()
		for indexes := client.Scan(t.Context(), 0, "stayauth:index:*", 1000).Iterator(); indexes.Next(t.Context()); {
			names, err := client.ZRangeWithScores(t.Context(), indexes.Val(), 0, -1).Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, z := range names {
				now := float64(time.Now().UnixMilli())
				switch {
				case !saved:
					z.Score = now
				case n > 0 && now-z.Score < float64(idleAge.Milliseconds()):
					z.Score = now - float64(2*idleAge.Milliseconds())
					n--
				default:
					continue
				}
				pipe.ZAdd(t.Context(), indexes.Val(), z)
			}
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		saved = true
	}
	return s
}

func idleInDir(t *testing.T, n int) *idleStore {
	path := t.TempDir()
	s := &idleStore{name: "Dir", cache: openCache(t, path)}
	logins(t, n, func(name string, data []byte) error {
		file := "e" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(name)))
		return os.WriteFile(filepath.Join(path, "entries", file), data, 0o600)
	})
	s.age = func(n int) {
		long := time.Now().Add(-2 * idleAge)
		dir, err := os.Open(filepath.Join(path, "entries"))
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		for n > 0 {
			files, err := dir.ReadDir(min(n, 1000))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				info, err := file.Info()
				if err != nil {
					t.Fatal(err)
				}
				if time.Since(info.ModTime()) > idleAge {
					continue
				}
				if err := os.Chtimes(filepath.Join(dir.Name(), file.Name()), long, long); err != nil {
					t.Fatal(err)
				}
				n--
			}
		}
	}
	return s
}
