package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

func idle(t *testing.T, s *redisstore.Store, before time.Time) (names []string) {
	t.Helper()
	for name, err := range s.ListIdle(t.Context(), before) {
		must(t, err)
		names = append(names, name)
	}
	return names
}

// Entries that earlier versions have saved, before the update and beside it, are no less idle;
// and if the index is lost, it comes back.
func TestIdleBesideOlderVersions(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	client := newClient(t, server.URL())
	s, err := redisstore.Open(redisstore.Config{URL: server.URL()})
	must(t, err)
	defer s.Close()
	older := func(name string) {
		t.Helper()
		keys := map[string]string{"a": "stayauth:entry:{YQ}", "b": "stayauth:entry:{Yg}"}
		if n, err := olderSave.Run(t.Context(), client, []string{keys[name]}, "", "v1", "theirs").Int(); err != nil || n != 1 {
			t.Fatalf("an older version cannot save: %d, %v", n, err)
		}
	}
	want := func(when string, before time.Time, names ...string) {
		t.Helper()
		got := idle(t, s, before)
		if slices.Sort(got); !slices.Equal(got, names) {
			t.Errorf("%s: %q are idle, want %q", when, got, names)
		}
	}
	older("a")
	now, later := time.Now(), time.Now().Add(30*time.Minute)
	want("after the update", now, "a")
	older("b")
	storecheck.Save(t, s, "c", "x", "")
	want("beside an older version", later, "a", "c") // and b by tomorrow
	must(t, client.Del(t.Context(), "stayauth:indexed").Err())
	want("a day later", later, "a", "b", "c")
	_, v, err := s.Load(t.Context(), "a")
	must(t, err)
	storecheck.Save(t, s, "a", "y", v)
	want("after it was saved", now, "b")
	must(t, client.FlushDB(t.Context()).Err())
	want("after it was flushed", later)
	older("a")
	must(t, client.Del(t.Context(), "stayauth:indexed").Err())
	want("after that", now, "a")
	must(t, s.Delete(t.Context(), "a", "v1"))
	want("after it was deleted", later)
}

// Of very many entries, each is listed once, those first that have been idle for very long; on
// one server and on the nodes of a cluster.
func TestIdleOfMany(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	_, cluster := realparts.StartRedisCluster(t)
	const day = 24 * time.Hour
	for _, url := range []string{server.URL(), "cluster:" + cluster} {
		s := mustOpen(t, url+"|")
		ages := []time.Duration{0, 2 * day, 9 * day, 40 * day, -2 * time.Hour} // the last one by a wrong clock
		saved := make(map[string]int)
		for i := range 2000 {
			name := fmt.Sprint(i)
			storecheck.Save(t, s, name, "x", "")
			saved[name] = i % len(ages)
		}
		// The members are what the Store has made; only their times change.
		var client redis.UniversalClient = newClient(t, server.URL())
		if url != server.URL() {
			options, err := redis.ParseClusterURL(cluster)
			must(t, err)
			client = redis.NewClusterClient(options)
			defer client.Close()
		}
		age(t, client, func(name string) time.Duration { return ages[saved[name]] })
		at := make(map[string]int)
		for i, name := range idle(t, s, time.Now().Add(-day)) {
			if _, twice := at[name]; twice || saved[name] == 0 {
				t.Errorf("%s: %q is not idle, or is listed twice", url, name)
			}
			at[name] = i
		}
		if len(at) != 1600 {
			t.Errorf("%s: %d are idle", url, len(at))
		}
		for name, i := range at {
			if bound := map[int]int{3: 400, 2: 800, 1: 1200, 4: 1600}[saved[name]]; i >= bound || i < bound-400 {
				t.Errorf("%s: %q, which was saved %v ago, comes at %d", url, name, ages[saved[name]], i)
			}
		}
	}
}

// age changes when entries were saved, as the indexes on a server say.
func age(t *testing.T, client redis.UniversalClient, age func(name string) time.Duration) {
	t.Helper()
	change := func(node redis.UniversalClient) error {
		for keys := node.Scan(t.Context(), 0, "stayauth:index:*", 1000).Iterator(); keys.Next(t.Context()); {
			for _, name := range node.ZRange(t.Context(), keys.Val(), 0, -1).Val() {
				at := float64(time.Now().Add(-age(name)).UnixMilli())
				must(t, node.ZAdd(t.Context(), keys.Val(), redis.Z{Score: at, Member: name}).Err())
			}
		}
		return nil
	}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		must(t, cluster.ForEachMaster(t.Context(), func(_ context.Context, node *redis.Client) error { return change(node) }))
		return
	}
	must(t, change(client))
}

// What Config.Expiry has removed is not idle, and nothing of it is left in the index; but an
// entry that was saved when there was no Expiry stays.
func TestExpiredIsNotIdle(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	client := newClient(t, server.URL())
	open := func(expiry time.Duration) *redisstore.Store {
		s, err := redisstore.Open(redisstore.Config{URL: server.URL(), Expiry: expiry})
		must(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	storecheck.Save(t, open(0), "b", "x", "")
	v := storecheck.Save(t, open(time.Hour), "a", "x", "")
	s := open(100 * time.Millisecond)
	if got := idle(t, s, time.Now().Add(time.Minute)); len(got) != 2 {
		t.Errorf("%q are there", got)
	}
	storecheck.Save(t, s, "a", "y", v)
	for client.Exists(t.Context(), "stayauth:entry:{YQ}").Val() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if got := idle(t, s, time.Now().Add(time.Minute)); !slices.Equal(got, []string{"b"}) {
		t.Errorf("after the Expiry %q are idle", got)
	}
	if keys := client.Keys(t.Context(), "stayauth:index:*").Val(); len(keys) != 1 {
		t.Errorf("the indexes are %q", keys)
	}
}
