package redisstore_test

import (
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
	if !older() {
		t.Fatal("an older version does not get the lock that was released")
	}
	begun := time.Now()
	must(t, storecheck.Lock(t, s, "a")()) // Its process has died: nobody renews it.
	if took := time.Since(begun); took < lease {
		t.Errorf("the lock of an older version was taken after %v", took)
	}
}
