package redisstore

import (
	"context"
	"fmt"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// buckets is the number of sets of names, each with the hash tag of the locks in it: enough to
// spread them over a cluster, and few enough to read all of them.
const buckets = 32

// lockKeys returns the key of a lock, which is gone when its lease has ended, and the key of
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

// Interrupted implements tokencache.Recoverer: it names the locks that have had no lease for
// long enough. If there is any lock without a lease, it takes some seconds to be sure.
func (s *Store) Interrupted(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for first := time.Now(); ; {
			begun := time.Now()
			names, err := await(ctx, s.orphans)
			if err != nil {
				yield("", problem(ctx, "look for the dead", "", err))
				return
			}
			unsure := false
			for _, i := range rand.Perm(len(names)) { // Other processes may be doing the same.
				if !s.deaths.sure(names[i], begun, s.grace()) {
					unsure = true
				} else if !yield(names[i], nil) {
					return
				}
			}
			if !unsure || begun.Sub(first) > s.grace() { // The next call will find what has lapsed since.
				return
			}
			select {
			case <-time.After(s.grace() / 6):
			case <-ctx.Done():
			}
		}
	}
}

// Returns whether the name is locked without a lease, or an error if the server does not accept
// writes: then nobody can renew a lease.
var lapsedScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return 1 end
redis.call('SREM', KEYS[2], ARGV[1])
return 0`)

// orphans makes a round trip to each node, one more if anything is locked, and another one if
// anything has no lease.
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
	leases := make(map[string]*redis.IntCmd)
	_, err = s.cfg.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, set := range sets {
			for _, name := range set.Val() {
				leases[name] = pipe.Exists(ctx, s.lockKeys(name)[0])
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	looks := make(map[string]*redis.Cmd)
	_, err = s.cfg.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for name, lease := range leases {
			if lease.Val() == 0 {
				looks[name] = lapsedScript.Eval(ctx, pipe, s.lockKeys(name), name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name, look := range looks {
		if n, _ := look.Int(); n == 1 {
			orphans = append(orphans, name)
		}
	}
	return orphans, nil
}
