package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// slotsAtOnce is how many indexes are read in a round trip.
	slotsAtOnce = 1024

	// wrongClock is how far in the future a save may be, see tokencache.IdleLister.
	wrongClock = time.Hour

	// completeTime is how long an index counts as complete: beside this version, there may be
	// earlier ones, which do not add to it what they save.
	completeTime = 24 * time.Hour
)

// idleSpans are the ends, before the given time, of the spans of time whose entries are listed
// together: for some of them it is urgent.
var idleSpans = [...]time.Duration{28 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour, 0}

// ListIdle implements tokencache.IdleLister, by the clock of the server. Entries that have been
// idle for four weeks come first, then those of a week and of a day. The first call in 24 hours,
// of whichever process, looks at every key for entries that earlier versions have saved.
func (s *Store) ListIdle(ctx context.Context, before time.Time) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := s.completeIndex(ctx)
		if err == nil {
			err = s.listIdle(ctx, before, func(name string) bool { return yield(name, nil) })
		}
		if err != nil {
			yield("", problem(ctx, "list what is idle", "", err))
		}
	}
}

func (s *Store) listIdle(ctx context.Context, before time.Time, use func(name string) bool) error {
	now, err := await(ctx, func(ctx context.Context) (time.Time, error) { return s.cfg.Client.Time(ctx).Result() })
	if err != nil {
		return err
	}
	all := make([]uint16, slots)
	for i, slot := range rand.Perm(slots) { // Other processes may be doing the same.
		all[i] = uint16(slot)
	}
	idle := redis.ZRangeBy{Min: "-inf", Max: until(before)}
	future := redis.ZRangeBy{Min: fmt.Sprint(now.Add(wrongClock).UnixMilli()), Max: "+inf"}
	var some []uint16 // those with anything in either range
	for part := range slices.Chunk(all, slotsAtOnce) {
		occupied, err := s.occupied(ctx, part, idle, future)
		if err != nil {
			return err
		}
		some = append(some, occupied...)
	}
	spans, from := []redis.ZRangeBy(nil), idle.Min
	for _, age := range idleSpans {
		end := before.Add(-age)
		spans, from = append(spans, redis.ZRangeBy{Min: from, Max: until(end)}), fmt.Sprint(end.UnixMilli())
	}
	for _, span := range append(spans, future) {
		for part := range slices.Chunk(some, slotsAtOnce) {
			found, err := s.readIndexes(ctx, part, span)
			if err != nil {
				return err
			}
			names, err := s.withoutExpired(ctx, slices.Concat(found...), now)
			if err != nil {
				return err
			}
			slices.SortFunc(names, func(a, b redis.Z) int { return cmp.Compare(a.Score, b.Score) })
			for _, name := range names {
				if !use(name.Member.(string)) {
					return nil
				}
			}
		}
	}
	return nil
}

// Returns the numbers of the indexes that have anything in either range.
var occupiedScript = redis.NewScript(`
local occupied = {}
for i, key in ipairs(KEYS) do
	if redis.call('EXISTS', key) == 1 and (#redis.call('ZRANGEBYSCORE', key, ARGV[1], ARGV[2], 'LIMIT', 0, 1) > 0
		or #redis.call('ZRANGEBYSCORE', key, ARGV[3], ARGV[4], 'LIMIT', 0, 1) > 0) then occupied[#occupied + 1] = i end
end
return occupied`)

// occupied returns which slots have anything in either range. Most have nothing, and a server
// that has all slots is not asked for each.
func (s *Store) occupied(ctx context.Context, of []uint16, a, b redis.ZRangeBy) (occupied []uint16, err error) {
	if _, cluster := s.cfg.Client.(*redis.ClusterClient); !cluster {
		keys := make([]string, len(of))
		for i, slot := range of {
			keys[i] = s.index(slot)
		}
		numbers, err := await(ctx, func(ctx context.Context) ([]int64, error) {
			return occupiedScript.Run(ctx, s.cfg.Client, keys, a.Min, a.Max, b.Min, b.Max).Int64Slice()
		})
		for _, i := range numbers {
			occupied = append(occupied, of[i-1])
		}
		if word, _ := kind(err); word != crossSlot { // as behind a proxy that hides a cluster
			return occupied, err
		}
	}
	a.Count, b.Count = 1, 1
	inA, err := s.readIndexes(ctx, of, a)
	if err != nil {
		return nil, err
	}
	inB, err := s.readIndexes(ctx, of, b)
	if err != nil {
		return nil, err
	}
	for i, slot := range of {
		if len(inA[i])+len(inB[i]) > 0 {
			occupied = append(occupied, slot)
		}
	}
	return occupied, nil
}

// withoutExpired returns the names without those whose entries have expired, which it removes
// from the index.
func (s *Store) withoutExpired(ctx context.Context, names []redis.Z, now time.Time) ([]redis.Z, error) {
	if s.cfg.Expiry == 0 {
		return names, nil
	}
	end := float64(now.Add(-s.cfg.Expiry).UnixMilli())
	return await(ctx, func(ctx context.Context) (rest []redis.Z, err error) {
		answers := make([]*redis.Cmd, len(names))
		_, err = s.cfg.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, name := range names {
				if name.Score <= end {
					answers[i] = missingScript.Eval(ctx, pipe, s.keys(name.Member.(string)), s.missingArgs(name.Member.(string))...)
				}
			}
			return nil
		})
		for i, name := range names {
			if answers[i] == nil || answers[i].Val() != neverWas {
				rest = append(rest, name)
			}
		}
		return rest, err
	})
}

// until returns the bound of scores that are before a time.
func until(t time.Time) string { return fmt.Sprintf("(%d", t.UnixMilli()) }

// readIndexes returns what the indexes of some slots have in a range.
func (s *Store) readIndexes(ctx context.Context, of []uint16, in redis.ZRangeBy) (found [][]redis.Z, err error) {
	return await(ctx, func(ctx context.Context) (found [][]redis.Z, err error) {
		var answers []*redis.ZSliceCmd
		_, err = s.cfg.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, slot := range of {
				answers = append(answers, pipe.ZRangeByScoreWithScores(ctx, s.index(slot), &in))
			}
			return nil
		})
		for _, answer := range answers {
			found = append(found, answer.Val())
		}
		return found, err
	})
}

// Adds an entry to the index as one of which it is not known when it was saved.
var indexScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('ZADD', KEYS[2], 'NX', 0, ARGV[1]) end
return 1`)

// completeIndex adds what is not in the index, unless a process has done so a while ago.
func (s *Store) completeIndex(ctx context.Context) error {
	completed := s.cfg.Prefix + "indexed"
	done, err := await(ctx, func(ctx context.Context) (int64, error) { return s.cfg.Client.Exists(ctx, completed).Result() })
	if err != nil || done > 0 {
		return err
	}
	err = s.scan(ctx, "", func(names []string) error {
		names = slices.Clone(names) // see await
		_, err := await(ctx, func(ctx context.Context) ([]redis.Cmder, error) {
			return s.cfg.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for _, name := range names {
					keys := s.keys(name)
					indexScript.Eval(ctx, pipe, []string{keys[0], keys[2]}, name)
				}
				return nil
			})
		})
		return err
	})
	if err != nil {
		return err
	}
	_, err = await(ctx, func(ctx context.Context) (string, error) {
		return s.cfg.Client.Set(ctx, completed, "", completeTime).Result()
	})
	return err
}
