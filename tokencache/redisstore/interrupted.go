package redisstore

import (
	"context"
	"fmt"
	"hash/fnv"
	"iter"

	"github.com/redis/go-redis/v9"
)

// buckets is how many sets of names there are, each with the hash tag of the locks in
// it: enough to spread them over a cluster, and few enough to look at all of them.
const buckets = 32

// lockKeys returns the key of a lock, which is gone when its lease has ended, and that of
// the set that names it until it is released. Both are on the same node of a cluster.
func (s *Store) lockKeys(name string) []string {
	h := fnv.New32a()
	h.Write([]byte(name))
	bucket := h.Sum32() % buckets
	return []string{fmt.Sprintf("%slock:{%02x}:%s", s.cfg.Prefix, bucket, encode(name)), s.lockedKey(bucket)}
}

func (s *Store) lockedKey(bucket uint32) string {
	return fmt.Sprintf("%slocked:{%02x}", s.cfg.Prefix, bucket)
}

// Interrupted implements tokencache.Recoverer: it names what is locked and has no lease
// any more.
func (s *Store) Interrupted(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := await(ctx, s.orphans)
		if err != nil {
			yield("", problem(ctx, "look for the dead", "", err))
			return
		}
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

// orphans takes two round trips to each node if anything is locked, and else one.
func (s *Store) orphans(ctx context.Context) (orphans []string, err error) {
	var sets []*redis.StringSliceCmd
	_, err = s.cfg.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for bucket := range uint32(buckets) {
			sets = append(sets, pipe.SMembers(ctx, s.lockedKey(bucket)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	type look struct {
		lease  *redis.IntCmd
		locked *redis.BoolCmd
	}
	looks := make(map[string]look)
	_, err = s.cfg.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, set := range sets {
			for _, name := range set.Val() {
				keys := s.lockKeys(name)
				// In this order: who releases the lock meanwhile removes both.
				looks[name] = look{pipe.Exists(ctx, keys[0]), pipe.SIsMember(ctx, keys[1], name)}
			}
		}
		return nil
	})
	for name, look := range looks {
		if look.lease.Val() == 0 && look.locked.Val() {
			orphans = append(orphans, name)
		}
	}
	return orphans, err
}
