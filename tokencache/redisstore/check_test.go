package redisstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

// A server that forgets, and a way to it that anybody can read, are told before they cost
// logins.
func TestCheck(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	admin := newClient(t, server.URL())
	addUser(t, admin)
	must(t, mustOpen(t, empty(server.URL())).Check(t.Context()))
	must(t, mustOpen(t, asUser(empty(server.URL()))).Check(t.Context()))
	options, err := redis.ParseURL(server.URL())
	must(t, err)
	options.Addr = "redis.internal:6379"
	options.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, fmt.Sprint("127.0.0.1:", server.Port))
	}
	client := redis.NewClient(options)
	defer client.Close()
	elsewhere, err := redisstore.Open(redisstore.Config{Client: client})
	must(t, err)
	defer elsewhere.Close()
	if err := elsewhere.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "not encrypted") {
		t.Errorf("without TLS: %v", err)
	}
	for _, setting := range [][2]string{{"appendfsync", "everysec"}, {"appendonly", "no"}, {"maxmemory-policy", "allkeys-lru"}} {
		must(t, admin.ConfigSet(t.Context(), "maxmemory", "100mb").Err())
		must(t, admin.ConfigSet(t.Context(), setting[0], setting[1]).Err())
		if err := mustOpen(t, empty(server.URL())).Check(t.Context()); err == nil || !strings.Contains(err.Error(), setting[0]) {
			t.Errorf("%s %s: %v", setting[0], setting[1], err)
		}
		cache, err := tokencache.New(mustOpen(t, empty(server.URL())), tokencache.KeyBytes(make([]byte, 32)))
		must(t, err)
		if err := cache.Check(t.Context()); err == nil || !strings.Contains(err.Error(), setting[0]) {
			t.Errorf("of a Cache, %s %s: %v", setting[0], setting[1], err)
		}
	}
}

// Each node of a cluster can be set up differently.
func TestCheckOfACluster(t *testing.T) {
	t.Parallel()
	nodes, url := realparts.StartRedisCluster(t)
	for _, node := range nodes {
		addUser(t, newClient(t, node.URL()), "+cluster|slots")
	}
	s := mustOpen(t, asUser(empty("cluster:"+url)))
	must(t, s.Check(t.Context()))
	for _, node := range nodes {
		admin := newClient(t, node.URL())
		must(t, admin.ConfigSet(t.Context(), "appendonly", "no").Err())
		err := s.Check(t.Context())
		if err == nil || strings.Count(err.Error(), "appendonly of") != 1 || !strings.Contains(err.Error(), fmt.Sprintf("127.0.0.1:%d: ", node.Port)) {
			t.Errorf("the node on port %d: %v", node.Port, err)
		}
		must(t, admin.ConfigSet(t.Context(), "appendonly", "yes").Err())
	}
	nodes[1].Crash() // It may be writing a log, and does not end in the orderly way meanwhile.
	newClient(t, nodes[0].URL()).ConfigSet(t.Context(), "appendonly", "no")
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "appendonly") {
		t.Errorf("without a node: %v", err)
	}
}

// A Config and a Store show no password, however they are printed.
func TestNothingPrintsAPassword(t *testing.T) {
	cfg := redisstore.Config{URL: "redis://app:" + password + "@127.0.0.1:1/0"}
	s, err := redisstore.Open(cfg)
	must(t, err)
	defer s.Close()
	var log strings.Builder
	for _, v := range []any{cfg, &cfg, s, struct{ Config redisstore.Config }{cfg}, struct{ *redisstore.Store }{s}} {
		encoded, err := json.Marshal(v)
		must(t, err)
		slog.New(slog.NewTextHandler(&log, nil)).Info("", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("", "v", v)
		if text := fmt.Sprintf("%v %+v %#v %s %q %s %s", v, v, v, v, v, encoded, log.String()); strings.Contains(text, password) {
			t.Errorf("the password is in %s", text)
		}
	}
}
