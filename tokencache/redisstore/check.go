package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/tokencache"
)

// Check finds out what is wrong with the server's settings and the connection to it, even
// though the Store works: logins can vanish, or be read on the way. The error names everything
// that was found. A transport.Source logs it once, before the first refresh. In a cluster,
// Check looks at one node. It checks how often the file is synced if the user has +config|get.
func (s *Store) Check(ctx context.Context) error {
	_, err := await(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.checkSettings(ctx) })
	if err != nil {
		return problem(ctx, "check", "", err)
	}
	return nil
}

func (s *Store) checkSettings(ctx context.Context) error {
	_, err := rightsScript.Run(ctx, s.cfg.Client, []string{s.index(slotOf("check"))}).Result()
	var found []error
	if word, _ := kind(err); word == lacksRight {
		found = append(found, fmt.Errorf("%w: %s; without it, nobody finds out which logins are idle, or were lost", tokencache.ErrUnavailable, harmless(err)))
	}
	cluster, ok := s.cfg.Client.(*redis.ClusterClient)
	if !ok {
		return errors.Join(append(found, checkNode(ctx, s.cfg.Client))...)
	}
	var mu sync.Mutex
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		err := checkNode(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			found = append(found, fmt.Errorf("%s: %w", node.Options().Addr, err))
		}
		return nil
	})
	return errors.Join(append(found, err)...)
}

// checkNode finds out what is wrong with the settings of one server.
func checkNode(ctx context.Context, node redis.Cmdable) error {
	info, err := infoOf(ctx, node)
	if err != nil {
		return fmt.Errorf("%w: %s", tokencache.ErrUnavailable, harmless(err))
	}
	var found []error
	tell := func(format string, args ...any) {
		found = append(found, fmt.Errorf("%w: "+format, append([]any{tokencache.ErrUnavailable}, args...)...))
	}
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" && info["maxmemory"] != "0" {
		tell("maxmemory-policy of the server is %s: logins and locks vanish when its memory is full: set noeviction", policy)
	}
	if info["aof_enabled"] == "0" {
		tell("appendonly of the server is no: a crash loses what was saved: set appendonly yes and appendfsync always")
	} else if config, err := node.ConfigGet(ctx, "appendfsync").Result(); err == nil && config["appendfsync"] != "" && config["appendfsync"] != "always" {
		tell("appendfsync of the server is %s: a crash loses what was saved last: set always", config["appendfsync"])
	}
	if client, ok := node.(*redis.Client); ok && client.Options().TLSConfig == nil && !isLocal(client.Options().Addr) {
		tell("the connection to %s is not encrypted: use rediss://", client.Options().Addr)
	}
	return errors.Join(found...)
}

// isLocal reports whether an address is on this machine.
func isLocal(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return strings.HasPrefix(addr, "/")
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
