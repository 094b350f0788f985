package redisstore_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

var update = flag.Bool("update", false, "write testdata/shared.txt anew")

// What is in Redis is shared by all versions of the store that run at the same time, as
// they do while a service is deployed. A lock by another name is no lock, and both spend
// the refresh token. So this golden file never changes; what is added must be ignored by
// older versions.
func TestSharedNames(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	client := newClient(t, server.URL())
	s, err := redisstore.Open(redisstore.Config{URL: server.URL()})
	must(t, err)
	defer s.Close()
	for _, name := range []string{"a", "Some name/\x00\xff"} {
		storecheck.Save(t, s, name, "x", "")
		defer storecheck.Lock(t, s, name)()
	}
	must(t, s.Delete(t.Context(), "gone", storecheck.Save(t, s, "gone", "x", "")))
	storecheck.Save(t, s, "evicted", "x", "")
	must(t, client.Del(t.Context(), "stayauth:entry:{ZXZpY3RlZA}").Err())
	if _, _, err := s.Load(t.Context(), "evicted"); !errors.Is(err, tokencache.ErrNoTrace) {
		t.Errorf("Load: %v", err)
	}
	for _, err := range s.ListIdle(t.Context(), time.Now()) {
		must(t, err)
	}
	var lines []string
	keys, err := client.Keys(t.Context(), "*").Result()
	must(t, err)
	for _, key := range keys {
		kind, err := client.Type(t.Context(), key).Result()
		must(t, err)
		line := kind + " " + key
		switch kind {
		case "hash":
			fields, err := client.HKeys(t.Context(), key).Result()
			must(t, err)
			slices.Sort(fields)
			line += " with " + strings.Join(fields, ", ")
		case "set":
			members, err := client.SMembers(t.Context(), key).Result()
			must(t, err)
			line += fmt.Sprintf(" of %q", members)
		case "zset":
			members, err := client.ZRange(t.Context(), key, 0, -1).Result()
			must(t, err)
			line += fmt.Sprintf(" of %q by time", members)
		}
		if ttl, err := client.PTTL(t.Context(), key).Result(); err != nil || ttl > 0 {
			line += " that expires"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	golden := filepath.Join("testdata", "shared.txt")
	if *update {
		must(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if got != string(want) {
		t.Errorf("in Redis there is\n%swant\n%s", got, want)
	}
}

// Save of versions that left no trace of a Delete.
var olderSave = redis.NewScript(`
local now = redis.call('HGET', KEYS[1], 'version') or ''
if now == ARGV[2] then return 1 end
if now ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'data', ARGV[3])
return 1`)

// A trace is nothing to older versions, which save over it, and what they delete has none.
// What a FLUSHALL takes has none either.
func TestTracesBesideOlderVersions(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	client := newClient(t, server.URL())
	s, err := redisstore.Open(redisstore.Config{URL: server.URL()})
	must(t, err)
	defer s.Close()
	lost := func() bool {
		t.Helper()
		_, _, err := s.Load(t.Context(), "a")
		if !errors.Is(err, tokencache.ErrNotFound) {
			t.Fatalf("Load: %v", err)
		}
		return errors.Is(err, tokencache.ErrNoTrace)
	}
	const entry, trace = "stayauth:entry:{YQ}", "stayauth:deleted:{YQ}"
	if !lost() {
		t.Error("what never was there has a trace")
	}
	must(t, s.Delete(t.Context(), "a", storecheck.Save(t, s, "a", "secret", "")))
	if lost() {
		t.Error("a deleted entry has no trace")
	}
	if text, err := client.Get(t.Context(), trace).Result(); err != nil || text != "" {
		t.Errorf("the trace is %q, %v", text, err)
	}
	if left := client.PTTL(t.Context(), trace).Val(); left < 30*24*time.Hour || left > 32*24*time.Hour {
		t.Errorf("the trace lasts %v", left)
	}
	if err := client.HGet(t.Context(), entry, "version").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("an older version loads what was deleted: %v", err)
	}
	if n, err := olderSave.Run(t.Context(), client, []string{entry}, "", "v1", "theirs").Int(); err != nil || n != 1 {
		t.Errorf("an older version cannot save over a trace: %d, %v", n, err)
	}
	if data, v, err := s.Load(t.Context(), "a"); err != nil || string(data) != "theirs" {
		t.Errorf("loaded %q, %v", data, err)
	} else {
		must(t, s.Delete(t.Context(), "a", v))
	}
	storecheck.Save(t, s, "a", "x", "")
	must(t, client.Del(t.Context(), entry).Err())
	if !lost() {
		t.Error("a new entry does not end the trace")
	}
	must(t, s.Delete(t.Context(), "a", ""))
	must(t, client.FlushAll(t.Context()).Err())
	if !lost() {
		t.Error("FLUSHALL leaves a trace")
	}
}

// The lock as versions took it that knew nothing of lapsed leases. They and the present
// one exclude each other.
var olderLock = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
return 1`)

func TestOlderVersionsExclude(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	client := newClient(t, server.URL())
	const lease = 9 * time.Second // The older one does not wait for a process that was slow to renew it.
	s, err := redisstore.Open(redisstore.Config{URL: server.URL(), Lease: lease})
	must(t, err)
	defer s.Close()
	older := func() bool {
		n, err := olderLock.Run(t.Context(), client, []string{"stayauth:lock:{0c}:YQ", "stayauth:locked:{0c}"}, "older", lease.Milliseconds(), "a").Int()
		must(t, err)
		return n == 1
	}
	unlock := storecheck.Lock(t, s, "a")
	for end := time.Now().Add(lease + lease/3); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if older() {
			t.Fatal("an older version got the lock that the present one holds")
		}
	}
	must(t, unlock())
	begun := time.Now()
	if !older() {
		t.Fatal("an older version does not get the lock that was released")
	}
	must(t, storecheck.Lock(t, s, "a")()) // Its process has died: nobody renews it.
	if took := time.Since(begun); took < lease {
		t.Errorf("the lock of an older version was taken after %v", took)
	}
}
