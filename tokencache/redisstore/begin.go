package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/tokencache"
)

// The lock of an entry and the entry itself may be on different nodes of a cluster, so only a server
// that has all keys takes the one and saves the other at once. Where it must not, because a proxy
// hides a cluster, nothing is done, and both are done one after the other.

// Takes the lock as lockScript does, and saves an entry that is there as saveScript does, or neither.
var beginScript = redis.NewScript(serverTime + `
local now = redis.call('HGET', KEYS[3], 'version')
if now ~= ARGV[5] and now ~= ARGV[6] then return 4 end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
local known = redis.call('SADD', KEYS[2], ARGV[3]) == 0
if not holder and known and ARGV[4] == 'take' then return 2 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[3], 'version', ARGV[6], 'data', ARGV[7])
if ARGV[8] ~= '0' then redis.call('PEXPIRE', KEYS[3], ARGV[8]) end
local at = milliseconds()
if at then redis.pcall('ZADD', KEYS[4], at, ARGV[3]) end
return 1`)

// Saves an entry as saveScript does, and releases the lock as unlockScript does. If the entry has
// the new version already, the script was run before, and only the answer was lost.
var endScript = redis.NewScript(serverTime + `
local now = redis.call('HGET', KEYS[3], 'version')
if now ~= ARGV[3] and now ~= ARGV[4] then return 4 end
redis.call('HSET', KEYS[3], 'version', ARGV[4], 'data', ARGV[5])
if ARGV[6] ~= '0' then redis.call('PEXPIRE', KEYS[3], ARGV[6]) end
local at = milliseconds()
if at then redis.pcall('ZADD', KEYS[4], at, ARGV[2]) end
local again, holder = now == ARGV[4], redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return again and 1 or 5 end
redis.call('DEL', KEYS[1])
if redis.call('SREM', KEYS[2], ARGV[2]) == 1 or holder or again then return 1 end
return 5`)

// allKeys returns the keys of a lock, of its entry, and of the index.
func (s *Store) allKeys(name string) []string {
	keys := s.keys(name)
	return append(s.lockKeys(name), keys[0], keys[2])
}

// Begin saves data and takes the lock, by one script, and so does end with the save and the release,
// see tokencache.Cache.Begin. With a cluster the error wraps errors.ErrUnsupported.
func (s *Store) Begin(ctx context.Context, name string, data []byte, old tokencache.Version, _ string) (
	v tokencache.Version, end func(context.Context, []byte, tokencache.Version) (tokencache.Version, error), unlock func() error, err error) {
	if err := checkName(name); err != nil {
		return "", nil, nil, err
	}
	if s.spread() {
		return "", nil, nil, errors.ErrUnsupported
	}
	look := s.unlessAt(name, old)
	leave, err := s.gates.EnterUnless(ctx, name, look)
	if err != nil {
		return "", nil, nil, problem(ctx, "begin", name, err)
	}
	version, text := random(), string(data) // a copy: see await
	h, err := s.wait(ctx, name, leave, look, func(ctx context.Context, how, holder string) (int, error) {
		answer, err := s.write(ctx, beginScript, s.allKeys(name), holder, s.lapse().Milliseconds(), name, how, string(old), version, text, s.cfg.Expiry.Milliseconds())
		if word, _ := kind(err); word == crossSlot {
			s.apart.Store(true)
		}
		return answer, err
	})
	switch {
	case err != nil && s.apart.Load():
		return "", nil, nil, errors.ErrUnsupported
	case err != nil:
		return "", nil, nil, err
	}
	return tokencache.Version(version), h.end, h.unlock, nil
}

// end saves data and releases the lock.
func (h *hold) end(ctx context.Context, data []byte, old tokencache.Version) (tokencache.Version, error) {
	s, version, text := h.s, random(), string(data)
	answer, err := h.exclusively(ctx, func(ctx context.Context) (int, error) {
		return s.write(ctx, endScript, s.allKeys(h.name), h.holder, h.name, string(old), version, text, s.cfg.Expiry.Milliseconds())
	})
	switch {
	case errors.Is(err, errSlow) && ctx.Err() == nil: // The lease has to be renewed meanwhile.
		return s.Save(ctx, h.name, data, old)
	case err != nil:
		return "", problem(ctx, "save", h.name, err)
	case answer == hasChanged:
		return "", fmt.Errorf("redisstore: save %q: %w", h.name, tokencache.ErrConflict)
	}
	h.leave()
	return tokencache.Version(version), nil
}

var errSlow = errors.New("the server is slow")

// exclusively runs what releases the lock while its lease is not renewed: that would be a lock that
// nobody releases.
func (h *hold) exclusively(ctx context.Context, f func(context.Context) (int, error)) (answer int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.called = true
	brief, cancel := context.WithTimeoutCause(ctx, h.s.briefly(), errSlow)
	defer cancel()
	if answer, err = await(brief, f); err != nil {
		return 0, cmp.Or(context.Cause(brief), err)
	}
	h.ended = answer != hasChanged
	h.lost = h.lost || answer == lockIsLost
	return answer, nil
}
