package redisstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// The user of the store may do on each node what the package documentation says, and no
// more.
func TestCluster(t *testing.T) {
	t.Parallel()
	var nodes []string
	var clients []*redis.Client
	for i := range 3 {
		server := realparts.StartRedis(t, "cluster-enabled yes")
		nodes = append(nodes, fmt.Sprintf("127.0.0.1:%d", server.Port))
		clients = append(clients, newClient(t, server.URL()))
		addUser(t, clients[i], "+cluster|slots")
		must(t, clients[i].ClusterAddSlotsRange(t.Context(), i*5461, min(i*5461+5460, 16383)).Err())
	}
	must(t, clients[2].ClusterAddSlots(t.Context(), 16383).Err())
	for _, node := range nodes {
		host, port, _ := strings.Cut(node, ":")
		must(t, clients[0].ClusterMeet(t.Context(), host, port).Err())
	}
	for deadline := time.Now().Add(storecheck.Patience); ; time.Sleep(50 * time.Millisecond) {
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
	url := "cluster:" + asUser("redis://"+nodes[0]) + "?addr=" + nodes[1] + "&addr=" + nodes[2]
	storetest.RunShared(t, func(t *testing.T) string { return empty(url) }, open, storetest.Increments(500))
}
