package redisstore_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

// lease is long for a test, and short for those who wait for the lock of a process
// that was killed.
const lease = 3 * time.Second

func TestMain(m *testing.M) { storecheck.Main(m, open) }

// open opens the store that "URL|prefix" names, or that of a cluster, as
// "cluster:redis://user:password@host:port,...|prefix".
func open(arg string) (tokencache.Store, error) {
	url, prefix, _ := strings.Cut(arg, "|")
	cfg := redisstore.Config{URL: url, Prefix: prefix, Lease: lease}
	if url, ok := strings.CutPrefix(url, "cluster:"); ok {
		options, err := redis.ParseClusterURL(url)
		if err != nil {
			return nil, err
		}
		cfg.URL, cfg.Client = "", redis.NewClusterClient(options)
	}
	return redisstore.Open(cfg)
}

func mustOpen(t *testing.T, arg string) *redisstore.Store {
	t.Helper()
	s, err := open(arg)
	must(t, err)
	t.Cleanup(func() { s.(*redisstore.Store).Close() })
	return s.(*redisstore.Store)
}

var prefixes atomic.Int32

// empty returns how to open a new, empty store.
func empty(url string) (arg string) {
	return fmt.Sprintf("%s|stayauth:test-%d-[*]?\\:", url, prefixes.Add(1))
}

func newClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	must(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
