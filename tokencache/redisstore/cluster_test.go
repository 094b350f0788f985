package redisstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// The user of the store may do on each node what the package documentation says, and no
// more.
func TestCluster(t *testing.T) {
	t.Parallel()
	nodes, url := realparts.StartRedisCluster(t)
	for _, node := range nodes {
		addUser(t, newClient(t, node.URL()), "+cluster|slots")
	}
	storetest.RunShared(t, func(t *testing.T) string { return empty("cluster:" + asUser(url)) }, open, storetest.Increments(500))
}

// The note of a refresh and its lock may be on different nodes. Both have to be on a replica, or
// else a failover of one of them takes the lock away from a process that is spending the token.
func TestLocksOnReplicas(t *testing.T) {
	t.Parallel()
	nodes, url := realparts.StartRedisCluster(t)
	var replicas []*realparts.Redis
	for _, node := range nodes {
		replicas = append(replicas, node.StartReplica(t))
	}
	options, err := redis.ParseClusterURL(url)
	must(t, err)
	client := redis.NewClusterClient(options)
	t.Cleanup(func() { client.Close() })
	s, err := redisstore.Open(redisstore.Config{Client: client, Lease: lease, Replicas: 1})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"} // are on all nodes
	for _, name := range names {
		must(t, storecheck.Lock(t, s, name)())
	}
	for _, replica := range replicas {
		replica.Stop()
	}
	for _, name := range names {
		if _, err := s.Lock(t.Context(), name); !errors.Is(err, redisstore.ErrNotReplicated) || !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, replica := range replicas {
		replica.Start()
	}
	for _, name := range names { // What has failed has left no lock behind.
		must(t, lockAgain(t, s, name)())
	}
}

// lockAgain takes a lock as soon as the replicas are connected.
func lockAgain(t *testing.T, s tokencache.Store, name string) (unlock func() error) {
	t.Helper()
	for begun := time.Now(); ; {
		unlock, err := s.Lock(t.Context(), name)
		if err == nil {
			return unlock
		}
		if time.Since(begun) > storecheck.Patience {
			t.Fatal(err)
		}
	}
}

// A proxy can hide a cluster, whose nodes take no command with keys of several slots. One node
// that has all slots is as strict.
func TestHiddenCluster(t *testing.T) {
	t.Parallel()
	node := realparts.StartRedis(t, "cluster-enabled yes", fmt.Sprint("cluster-port ", realparts.FreePort(t)))
	must(t, newClient(t, node.URL()).ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	for deadline := time.Now().Add(storecheck.Patience); ; time.Sleep(20 * time.Millisecond) {
		if err := newClient(t, node.URL()).Set(t.Context(), "a", "", 0).Err(); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	storetest.Run(t, func(t *testing.T) tokencache.Store { return mustOpen(t, empty(node.URL())) }, storetest.Increments(100))
}
