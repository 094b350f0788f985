package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// noticed is how soon sentinels and the nodes of a cluster take a server for dead.
const noticed = 2 * time.Second

// A shard is a primary and its replicas, which change places.
type shard struct {
	servers  []*realparts.Redis                            // the primary first
	promoted func(t *testing.T, s *shard) *realparts.Redis // waits for another primary

	// A server that is started again has the role with which it was started for the first time:
	// it has no file into which Sentinel could write another.
	forgetsRole bool
}

func sentinelSite(t *testing.T, confirm int) site {
	primary := realparts.StartRedis(t, fmt.Sprint("min-replicas-to-write ", confirm), "min-replicas-max-lag 2")
	settings := []string{fmt.Sprint("min-replicas-to-write ", confirm), "min-replicas-max-lag 2"}
	s := &shard{forgetsRole: true, servers: []*realparts.Redis{primary, primary.StartReplica(t, settings...), primary.StartReplica(t, settings...)}}
	sentinel := realparts.StartSentinel(t, primary, "logins", noticed, s.servers[1:]...)
	s.promoted = func(t *testing.T, s *shard) *realparts.Redis {
		client := redis.NewSentinelClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", sentinel.Port)})
		defer client.Close()
		for begun := time.Now(); time.Since(begun) < patience; time.Sleep(20 * time.Millisecond) {
			address, _ := client.GetMasterAddrByName(context.Background(), "logins").Result()
			for _, other := range s.servers[1:] {
				if len(address) == 2 && address[1] == fmt.Sprint(other.Port) {
					return other
				}
			}
		}
		return nil
	}
	return site{store: fmt.Sprintf("redis-sentinel://127.0.0.1:%d/0?master_name=logins", sentinel.Port), confirm: confirm,
		troubles: troublesOf([]*shard{s}, confirm), forgets: confirm == 0}
}

func clusterSite(t *testing.T, confirm int) site {
	nodes, url := realparts.StartRedisCluster(t, fmt.Sprint("cluster-node-timeout ", noticed.Milliseconds()))
	var shards []*shard
	for _, node := range nodes {
		shards = append(shards, &shard{servers: []*realparts.Redis{node, node.StartReplica(t, fmt.Sprint("cluster-node-timeout ", noticed.Milliseconds()))},
			promoted: func(t *testing.T, s *shard) *realparts.Redis {
				s.servers[1].AwaitInfo(t, "role:master")
				return s.servers[1]
			}})
	}
	return site{store: strings.Replace(url, "redis", "redis-cluster", 1), confirm: confirm, troubles: troublesOf(shards, confirm), forgets: confirm == 0, apart: true}
}

// changed waits for another primary, and then until the former one replicates it.
func (s *shard) changed(t *testing.T, repair func()) {
	if s.promoted(t, s) == nil {
		t.Error("no other primary")
		return
	}
	repair()
	s.settle(t)
}

// settle waits until one of the servers is the primary, and all others replicate it. If the
// machine is slow, the restart of a primary makes another one.
func (s *shard) settle(t *testing.T) {
	for begun := time.Now(); time.Since(begun) < 2*patience; time.Sleep(50 * time.Millisecond) {
		var primaries, replicas []*realparts.Redis
		connected := ""
		for _, server := range s.servers {
			client := redis.NewClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", server.Port), MaxRetries: -1})
			info := client.InfoMap(context.Background(), "replication").Val()["Replication"]
			client.Close()
			switch {
			case info["role"] == "master":
				primaries, connected = append(primaries, server), info["connected_slaves"]
			case info["master_link_status"] == "up":
				replicas = append(replicas, server)
			}
		}
		if len(primaries) == 1 && len(replicas) == len(s.servers)-1 && connected == fmt.Sprint(len(replicas)) {
			s.servers = append(primaries, replicas...)
			return
		}
	}
	t.Error("the servers do not replicate one")
}

func troublesOf(shards []*shard, confirm int) []trouble {
	any := func(r *rand.Rand) *shard { return shards[r.IntN(len(shards))] }
	fails := func(what string, fail, mend func(*realparts.Redis)) trouble {
		return trouble{what, func(t *testing.T, r *rand.Rand, c *campaign) {
			s, repair := any(r), upTo(r, 3*time.Second)
			former := s.servers[0]
			fail(former)
			s.changed(t, func() {
				repair()
				mend(former)
			})
		}}
	}
	all := []trouble{
		fails("the primary crashes", (*realparts.Redis).Crash, (*realparts.Redis).Start),
		fails("the primary freezes", (*realparts.Redis).Freeze, (*realparts.Redis).Thaw),
		{"the primary is restarted", func(t *testing.T, r *rand.Rand, c *campaign) {
			s, repair := any(r), upTo(r, noticed/4)
			s.servers[0].Stop()
			repair()
			s.servers[0].Start()
			if s.forgetsRole {
				command(t, s.servers[0], "REPLICAOF", "NO", "ONE")
			}
			s.settle(t)
		}},
	}
	if confirm > 0 {
		return all
	}
	return append(all, trouble{"the primary crashes and the replicas lag", func(t *testing.T, r *rand.Rand, c *campaign) {
		s, lag, repair := any(r), upTo(r, 2*time.Second), upTo(r, 3*time.Second)
		for _, replica := range s.servers[1:] {
			command(t, replica, "CONFIG", "SET", "masterauth", "nobody has one")
		}
		command(t, s.servers[0], "CLIENT", "KILL", "TYPE", "replica")
		lag()
		s.servers[0].Crash()
		for _, replica := range s.servers[1:] {
			command(t, replica, "CONFIG", "SET", "masterauth", "")
		}
		former := s.servers[0]
		s.changed(t, func() {
			repair()
			former.Start()
		})
	}})
}
