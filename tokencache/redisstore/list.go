package redisstore

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// List implements tokencache.Lister. Redis looks at every key, and sends those that match, in
// an order of its own.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		// A scan may return a key twice, and so may a cluster that moves it.
		seen := make(map[string]bool)
		err := s.scan(ctx, prefix, func(names []string) error {
			for _, name := range names {
				if seen[name] || !strings.HasPrefix(name, prefix) || name == prefix {
					continue
				}
				if seen[name] = true; !yield(name, nil) {
					return errStop
				}
			}
			return nil
		})
		if err != nil {
			yield("", problem(ctx, "list", "", err))
		}
	}
}

// errStop ends a scan whose names are no longer wanted.
var errStop = errors.New("stop")

// scan calls use for the names that begin with prefix, and perhaps for some others, until that
// returns an error. It may name one twice.
func (s *Store) scan(ctx context.Context, prefix string, use func(names []string) error) error {
	whole := prefix[:len(prefix)/3*3] // Base64 encodes three bytes at a time.
	pattern := glob(s.cfg.Prefix) + "entry:{" + encode(whole) + "*"
	scanNode := func(ctx context.Context, node redis.Cmdable) error {
		for cursor := uint64(0); ; {
			type batch struct {
				keys   []string
				cursor uint64
			}
			found, err := await(ctx, func(ctx context.Context) (b batch, err error) {
				b.keys, b.cursor, err = node.Scan(ctx, cursor, pattern, 1000).Result()
				return b, err
			})
			if err != nil {
				return err
			}
			var names []string
			for _, key := range found.keys {
				if name, ok := s.nameOf(key); ok {
					names = append(names, name)
				}
			}
			if err := use(names); err != nil {
				return err
			}
			if cursor = found.cursor; cursor == 0 {
				return nil
			}
		}
	}
	var err error
	if cluster, ok := s.cfg.Client.(*redis.ClusterClient); ok {
		var one sync.Mutex // one goroutine at a time calls use, none once it has returned an error
		stopped := false
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			one.Lock()
			defer one.Unlock()
			if stopped {
				return nil
			}
			err := scanNode(ctx, node)
			stopped = err != nil
			return err
		})
	} else {
		err = scanNode(ctx, s.cfg.Client)
	}
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// glob returns a pattern that matches text alone.
func glob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}
