package redisstore

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/tokencache"
)

// An entry that was not deleted and is in the index, but not there, is lost: evicted, or removed
// by hand. Then its name is wanted for a while by those who may have it in memory.

// wantedTime is how long that is, from the first Load and from the last.
const wantedTime = time.Minute

// What missingScript answers if there is no entry, when that is not lost.
const (
	wasDeleted = "deleted"
	neverWas   = "never"
)

// Returns the entry after all; or why there is none; or, if it is lost, how long it has been
// missed, in milliseconds. A loss that is as old as a trace may get is forgotten too.
var missingScript = redis.NewScript(serverTime + `
local entry = redis.call('HMGET', KEYS[1], 'version', 'data')
if entry[1] then return entry end
local function forget(why)
	redis.pcall('ZREM', KEYS[3], ARGV[1])
	redis.pcall('DEL', KEYS[4])
	return why
end
if redis.call('EXISTS', KEYS[2]) == 1 then return forget('deleted') end
local saved, now = redis.pcall('ZSCORE', KEYS[3], ARGV[1]), milliseconds()
if type(saved) ~= 'string' or not now then return 'never' end
if ARGV[2] ~= '0' and saved + ARGV[2] <= now then return forget('never') end
redis.pcall('SET', KEYS[4], now, 'NX', 'PX', 2 * ARGV[3])
local missed = tonumber(redis.pcall('GET', KEYS[4])) or now
if now - missed > tonumber(ARGV[3]) then return forget('never') end
return now - missed`)

// missing loads an entry that was missing a moment ago. The error says why it is.
func (s *Store) missing(ctx context.Context, name string) (version, data string, err error) {
	answer, err := missingScript.Run(ctx, s.cfg.Client, s.keys(name), s.missingArgs(name)...).Result()
	switch answer := answer.(type) {
	case []any:
		version, _ = answer[0].(string)
		data, _ = answer[1].(string)
	case int64:
		lost := &tokencache.LostError{For: time.Duration(answer) * time.Millisecond}
		if lost.For < wantedTime {
			// Whether anybody can help or not, the loss is the more important news.
			wantScript.Run(ctx, s.cfg.Client, []string{s.wanted()}, name, wantedTime.Milliseconds())
		}
		err = lost
	case string:
		if err = tokencache.ErrNoTrace; answer == wasDeleted {
			err = tokencache.ErrNotFound
		}
	default:
		if err == nil {
			err = fmt.Errorf("an answer of type %T", answer)
		}
	}
	return version, data, err
}

func (s *Store) missingArgs(name string) []any {
	return []any{name, s.cfg.Expiry.Milliseconds(), traceTime.Milliseconds()}
}

// wanted returns the key of the names that are wanted.
func (s *Store) wanted() string { return s.cfg.Prefix + "wanted" }

var wantScript = redis.NewScript(serverTime + `
local now = milliseconds()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`)

// Wanted implements tokencache.LossTracker.
func (s *Store) Wanted(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := await(ctx, func(ctx context.Context) ([]string, error) {
			return s.cfg.Client.ZRangeByScore(ctx, s.wanted(), &redis.ZRangeBy{Min: "-inf", Max: "+inf"}).Result()
		})
		if err != nil {
			yield("", problem(ctx, "look for what is wanted", "", err))
			return
		}
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}
