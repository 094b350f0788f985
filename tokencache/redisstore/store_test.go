package redisstore_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// lease is long for a test, and short for those who wait for the lock of a process
// that was killed.
const lease = 3 * time.Second

func TestMain(m *testing.M) {
	if arg, ok := os.LookupEnv(holderEnv); ok {
		fmt.Println(hold(arg))
		return
	}
	storetest.Child(open)
	os.Exit(m.Run())
}

// open opens the store that "URL|prefix" names, or that of a cluster.
func open(arg string) (tokencache.Store, error) {
	url, prefix, _ := strings.Cut(arg, "|")
	cfg := redisstore.Config{URL: url, Prefix: prefix, Lease: lease}
	if nodes, ok := strings.CutPrefix(url, "cluster:"); ok {
		cfg.URL, cfg.Client = "", redis.NewClusterClient(&redis.ClusterOptions{Addrs: strings.Split(nodes, ",")})
	}
	return redisstore.Open(cfg)
}

var prefixes atomic.Int32

// empty returns how to open a new, empty store.
func empty(url string) (arg string) {
	return fmt.Sprintf("%s|test-%d-[*]?\\:", url, prefixes.Add(1))
}

func TestStore(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	storetest.RunShared(t, func(t *testing.T) string { return empty(server.URL()) }, open, storetest.Increments(1000))
}

func TestCluster(t *testing.T) {
	t.Parallel()
	var nodes []string
	var clients []*redis.Client
	for i := range 3 {
		server := realparts.StartRedis(t, "cluster-enabled yes")
		nodes = append(nodes, fmt.Sprintf("127.0.0.1:%d", server.Port))
		clients = append(clients, redis.NewClient(&redis.Options{Addr: nodes[i]}))
		defer clients[i].Close()
		must(t, clients[i].ClusterAddSlotsRange(t.Context(), i*5461, min(i*5461+5460, 16383)).Err())
	}
	must(t, clients[2].ClusterAddSlots(t.Context(), 16383).Err())
	for _, node := range nodes {
		host, port, _ := strings.Cut(node, ":")
		must(t, clients[0].ClusterMeet(t.Context(), host, port).Err())
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		formed := 0
		for _, client := range clients {
			info, _ := client.ClusterInfo(t.Context()).Result()
			if strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") && strings.Contains(info, "cluster_slots_ok:16384") {
				formed++
			}
		}
		if formed == len(nodes) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the cluster does not come up")
		}
	}
	url := "cluster:" + strings.Join(nodes, ",")
	storetest.RunShared(t, func(t *testing.T) string { return empty(url) }, open, storetest.Increments(500))
}

// An entry that is saved again and again stays; one that is not, goes.
func TestExpiry(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	s, err := redisstore.Open(redisstore.Config{URL: server.URL(), Expiry: 500 * time.Millisecond})
	must(t, err)
	defer s.Close()
	client := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", server.Port)})
	defer client.Close()
	v := mustSave(t, s, "a", "x", "")
	must(t, client.Persist(t.Context(), "stayauth:entry:{YQ}").Err())
	mustSave(t, s, "a", "y", v)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := s.Load(context.Background(), "a"); err != nil {
			if !isNotFound(err) {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an abandoned entry stays")
		}
	}
}
