package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// Those of README.md take some minutes: -rows 1000,100000,1000000 -rounds 5 -round 3s
var (
	rowsFlag   = flag.String("rows", "100", "how many logins the stores of TestSizing hold, separated by commas")
	roundsFlag = flag.Int("rounds", 1, "how often TestSizing measures each case; the medians count")
	roundFlag  = flag.Duration("round", 100*time.Millisecond, "how long TestSizing measures a case")
)

// TestSizing measures the store's share of a rotation: how long it takes with one and
// with many at a time, and how that grows with the logins that are stored. All cases
// take turns, so that other work on the machine disturbs them alike.
func TestSizing(t *testing.T) {
	var cases []*sizing
	for rows := range strings.SplitSeq(*rowsFlag, ",") {
		n, err := strconv.Atoi(rows)
		if err != nil {
			t.Fatal(err)
		}
		for _, fill := range []func(*testing.T, int) (string, float64){fillPostgreSQL, fillRedis} {
			url, bytes := fill(t, n)
			for _, workers := range []int{1, 8} {
				engine, _, _ := strings.Cut(url, ":")
				cases = append(cases, &sizing{name: fmt.Sprintf("%-9s %8d rows %2d workers %6.0f bytes/login", engine, n, workers, bytes), rows: n, workers: workers, cache: openCache(t, url)})
			}
		}
	}
	for range *roundsFlag {
		for _, i := range rand.Perm(len(cases)) {
			cases[i].measure(t)
		}
	}
	for _, c := range cases {
		if len(c.perSecond) == 0 {
			t.Errorf("%s: no rotation", c.name)
			continue
		}
		fmt.Fprintf(t.Output(), "%s: %5.0f/s (%.0f to %.0f), p50 %5.1f ms, p99 %6.1f ms\n", c.name,
			median(c.perSecond), slices.Min(c.perSecond), slices.Max(c.perSecond), median(c.p50), median(c.p99))
	}
}

type sizing struct {
	name    string
	rows    int
	workers int
	cache   *tokencache.Cache

	perSecond, p50, p99 []float64 // by round
}

func (c *sizing) measure(t *testing.T) {
	took := make([][]float64, c.workers)
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range took {
		wg.Go(func() {
			for time.Since(begun) < *roundFlag {
				begun := time.Now()
				if err := rotate(t.Context(), c.cache, sizingKey(rand.IntN(c.rows))); err != nil {
					t.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(begun).Seconds()*1000)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begun).Seconds()
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	if n := len(all); n > 0 {
		c.perSecond = append(c.perSecond, float64(n)/elapsed)
		c.p50 = append(c.p50, all[n/2])
		c.p99 = append(c.p99, all[n*99/100])
	}
}

// rotate does to the store what a Source does for a rotation, without the provider.
func rotate(ctx context.Context, cache *tokencache.Cache, key tokencache.Key) error {
	rec, v, err := cache.Load(ctx, key)
	if err != nil {
		return err
	}
	rec.Attempt = &tokencache.Attempt{At: time.Now(), PID: 1}
	v, end, unlock, err := cache.Begin(ctx, key, rec, v)
	if errors.Is(err, tokencache.ErrConflict) { // Another worker has rotated the same one.
		return rotate(ctx, cache, key)
	}
	if err != nil {
		return err
	}
	rec.Attempt = nil
	rec.Generation++
	_, err = end(ctx, rec, v)
	return errors.Join(err, unlock())
}

func median(all []float64) float64 { return slices.Sorted(slices.Values(all))[len(all)/2] }

func sizingKey(i int) tokencache.Key {
	return tokencache.Key{Issuer: "https://issuer.test", ClientID: "app", Account: strconv.Itoa(i)}
}

var sizingSeal = tokencache.KeyBytes(make([]byte, 32))

func openCache(t *testing.T, url string) *tokencache.Cache {
	t.Helper()
	store, err := config{Store: url}.openStore()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tokencache.New(store, sizingSeal)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// logins calls put with the sealed entries of n logins, 1.5 KB each.
func logins(t *testing.T, n int, put func(name string, data []byte) error) {
	t.Helper()
	store := &bulk{put: put}
	cache, err := tokencache.New(store, sizingSeal)
	if err != nil {
		t.Fatal(err)
	}
	obtained := time.Now().Add(-idleAge - time.Hour) // TestIdlePass says how many were not saved since.
	rec := &tokencache.Record{TokenURL: "https://issuer.test/token", TokenType: "Bearer", ObtainedAt: obtained, Expiry: obtained.Add(time.Hour),
		AccessToken: tokencache.Secret(strings.Repeat("a", 800)), RefreshToken: tokencache.Secret(strings.Repeat("r", 400)), Generation: 1}
	for i := range n {
		if _, err := cache.Save(t.Context(), sizingKey(i), rec, "new"); err != nil {
			t.Fatal(err)
		}
	}
}

// bulk is a Store that only takes.
type bulk struct {
	tokencache.Store
	put func(name string, data []byte) error
}

func (b *bulk) Save(_ context.Context, name string, data []byte, _ tokencache.Version) (tokencache.Version, error) {
	return "new", b.put(name, data)
}

// What follows writes as the stores do, but much at a time.

func fillPostgreSQL(t *testing.T, n int) (url string, bytesPerLogin float64) {
	url, _ = onPostgreSQL(t)
	if err := migrate(t.Context(), config{Store: url}); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), strings.Replace(url, "pool_max_conns=4&", "", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var page [][]any
	flush := func() {
		if _, err := conn.CopyFrom(t.Context(), pgx.Identifier{"stayauth_entries"}, []string{"name", "version", "saved", "saved_span", "data"}, pgx.CopyFromRows(page)); err != nil {
			t.Fatal(err)
		}
		page = nil
	}
	logins(t, n, func(name string, data []byte) error {
		saved := time.Now().Add(-rand.N(idleAge - time.Hour)) // as if each had been renewed once a day
		if page = append(page, []any{[]byte(name), int64(1), saved, int32(saved.Unix() / 21600), data}); len(page) == 10_000 {
			flush()
		}
		return nil
	})
	flush()
	if _, err := conn.Exec(t.Context(), `VACUUM ANALYZE stayauth_entries`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `CHECKPOINT`); err != nil {
		t.Fatal(err)
	}
	var size float64
	if err := conn.QueryRow(t.Context(), `SELECT pg_total_relation_size('stayauth_entries')::float8`).Scan(&size); err != nil {
		t.Fatal(err)
	}
	return url, size / float64(n)
}

func fillRedis(t *testing.T, n int) (url string, bytesPerLogin float64) {
	server := realparts.StartRedis(t)
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	fsync := func(when string) {
		if err := client.ConfigSet(t.Context(), "appendfsync", when).Err(); err != nil {
			t.Fatal(err)
		}
	}
	fsync("no")
	defer fsync("always")
	pipe := client.Pipeline()
	flush := func() error {
		_, err := pipe.Exec(t.Context())
		return err
	}
	logins(t, n, func(name string, data []byte) error {
		pipe.HSet(t.Context(), "stayauth:entry:{"+base64.RawURLEncoding.EncodeToString([]byte(name))+"}", "version", "1", "data", data)
		if pipe.Len() == 1000 {
			return flush()
		}
		return nil
	})
	if err := flush(); err != nil {
		t.Fatal(err)
	}
	info, err := client.InfoMap(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	used, err := strconv.ParseFloat(info["Memory"]["used_memory"], 64)
	if err != nil {
		t.Fatal(err)
	}
	return server.URL(), used / float64(n)
}
