package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

// What Load says of an entry that is not there, and whether it is wanted.
type absence struct {
	lost    bool // surely
	noTrace bool // so it may be lost
	wanted  bool
}

func absent(t *testing.T, s *redisstore.Store, name string) (a absence) {
	t.Helper()
	_, _, err := s.Load(t.Context(), name)
	if !errors.Is(err, tokencache.ErrNotFound) {
		t.Fatalf("Load: %v", err)
	}
	_, a.lost = errors.AsType[*tokencache.LostError](err)
	a.noTrace = errors.Is(err, tokencache.ErrNoTrace)
	a.wanted = slices.Contains(wanted(t, s), name)
	return a
}

func wanted(t *testing.T, s *redisstore.Store) (names []string) {
	t.Helper()
	for name, err := range s.Wanted(t.Context()) {
		must(t, err)
		names = append(names, name)
	}
	return names
}

// An entry that was evicted, on its own or with all that is known of it, is told from one that
// was deleted, that has expired, or that never was; by whichever version that was done.
func TestAnEvictedEntryIsLost(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	client := newClient(t, server.URL())
	const entry, trace, index, lost = "stayauth:entry:{YQ}", "stayauth:deleted:{YQ}", "stayauth:index:{923}", "stayauth:lost:{YQ}"
	long := time.Now().Add(-32 * 24 * time.Hour).UnixMilli()
	remove := func(keys ...string) func(*testing.T, *redisstore.Store, tokencache.Version) {
		return func(t *testing.T, _ *redisstore.Store, _ tokencache.Version) {
			must(t, client.Del(t.Context(), keys...).Err())
		}
	}
	for _, tt := range []struct {
		name   string
		happen func(t *testing.T, s *redisstore.Store, v tokencache.Version)
		expiry time.Duration
		want   absence
		kept   bool // what is known of the entry
	}{
		{name: "it was evicted", happen: remove(entry), want: absence{true, true, true}, kept: true},
		{name: "it was evicted with the index", happen: remove(entry, index), want: absence{noTrace: true}},
		{name: "all was flushed", happen: func(t *testing.T, _ *redisstore.Store, _ tokencache.Version) {
			must(t, client.FlushDB(t.Context()).Err())
		}, want: absence{noTrace: true}},
		{name: "it was deleted", happen: func(t *testing.T, s *redisstore.Store, v tokencache.Version) { must(t, s.Delete(t.Context(), "a", v)) }},
		{name: "an earlier version has deleted it", happen: func(t *testing.T, _ *redisstore.Store, _ tokencache.Version) {
			must(t, client.Set(t.Context(), trace, "", time.Hour).Err())
			must(t, client.Del(t.Context(), entry).Err())
		}},
		{name: "it was evicted and then deleted", happen: func(t *testing.T, s *redisstore.Store, _ tokencache.Version) {
			must(t, client.Del(t.Context(), entry).Err())
			absent(t, s, "a")
			must(t, s.Delete(t.Context(), "a", ""))
		}, want: absence{wanted: true}},
		{name: "it has expired", happen: func(t *testing.T, _ *redisstore.Store, _ tokencache.Version) {
			for client.Exists(t.Context(), entry).Val() > 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}, expiry: 50 * time.Millisecond, want: absence{noTrace: true}},
		{name: "it was evicted before it expires", happen: remove(entry), expiry: time.Hour, want: absence{true, true, true}, kept: true},
		{name: "it was missed for a month", happen: func(t *testing.T, _ *redisstore.Store, _ tokencache.Version) {
			must(t, client.Del(t.Context(), entry).Err())
			must(t, client.Set(t.Context(), lost, long, time.Hour).Err())
		}, want: absence{noTrace: true}},
		{name: "it has been missed for a while", happen: func(t *testing.T, _ *redisstore.Store, _ tokencache.Version) {
			must(t, client.Del(t.Context(), entry).Err())
			must(t, client.Set(t.Context(), lost, time.Now().Add(-2*time.Minute).UnixMilli(), time.Hour).Err())
		}, want: absence{lost: true, noTrace: true}, kept: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			must(t, client.FlushDB(t.Context()).Err())
			s, err := redisstore.Open(redisstore.Config{URL: server.URL(), Expiry: tt.expiry})
			must(t, err)
			defer s.Close()
			if got := absent(t, s, "a"); got != (absence{noTrace: true}) {
				t.Errorf("before it was there: %+v", got)
			}
			tt.happen(t, s, storecheck.Save(t, s, "a", "x", ""))
			for range 2 {
				if got := absent(t, s, "a"); got != tt.want {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
			}
			if n, err := client.Exists(t.Context(), index, lost).Result(); err != nil || (n > 0) != tt.kept {
				t.Errorf("%d keys say that it was there, %v", n, err)
			}
			lasting, err := redisstore.Open(redisstore.Config{URL: server.URL()})
			must(t, err)
			defer lasting.Close()
			storecheck.Save(t, lasting, "a", "y", "")
			if data, _, err := lasting.Load(t.Context(), "a"); err != nil || string(data) != "y" {
				t.Errorf("loaded %q, %v", data, err)
			}
			if n, err := client.Exists(t.Context(), lost).Result(); err != nil || n > 0 {
				t.Errorf("it counts as missed although it is there, %v", err)
			}
		})
	}
}

// A LostError says for how long the entry has been missed, whoever has missed it first.
func TestLostForHowLong(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	arg := empty(server.URL())
	s, other := mustOpen(t, arg), mustOpen(t, arg)
	storecheck.Save(t, s, "a", "x", "")
	keys, err := newClient(t, server.URL()).Keys(t.Context(), "*:entry:*").Result()
	must(t, err)
	must(t, newClient(t, server.URL()).Del(t.Context(), keys...).Err())
	time.Sleep(time.Second)
	before := time.Now()
	absent(t, other, "a")
	after := time.Now()
	time.Sleep(time.Second)
	least := time.Since(after)
	_, _, err = s.Load(t.Context(), "a")
	const precision = time.Millisecond // of the server's clock
	if lost, ok := errors.AsType[*tokencache.LostError](err); !ok || lost.For < least-precision || lost.For > time.Since(before)+precision {
		t.Errorf("missed for %v to %v: Load: %v", least, time.Since(before), err)
	}
}

// On a cluster too, whichever node had the entry, and with the rights of the documentation.
func TestLostOnACluster(t *testing.T) {
	t.Parallel()
	nodes, url := realparts.StartRedisCluster(t)
	for _, node := range nodes {
		addUser(t, newClient(t, node.URL()), "+cluster|slots")
	}
	s := mustOpen(t, asUser(empty("cluster:"+url)))
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprint("name ", i))
		storecheck.Save(t, s, names[i], "x", "")
	}
	evicted := 0
	for _, node := range nodes {
		client := newClient(t, node.URL())
		keys, err := client.Keys(t.Context(), "*:entry:*").Result()
		must(t, err)
		for _, key := range keys {
			evicted += int(client.Del(t.Context(), key).Val())
		}
	}
	for _, name := range names {
		if got := absent(t, s, name); got != (absence{true, true, true}) {
			t.Errorf("%q: %+v", name, got)
		}
	}
	if got := absent(t, s, "another"); evicted != len(names) || got != (absence{noTrace: true}) {
		t.Errorf("%d evicted; what never was there: %+v", evicted, got)
	}
}
