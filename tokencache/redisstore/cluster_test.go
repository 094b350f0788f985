package redisstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
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
