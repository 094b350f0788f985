package redisstore_test

import (
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
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
