package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/tokencache"
)

// Times between two looks at a lock that others hold. They grow with the time already
// waited: many may wait for what takes long, and those are the times when the server has
// enough to do.
const (
	lookMin = 5 * time.Millisecond
	lookMax = 250 * time.Millisecond
)

const commandTimeout = 5 * time.Second

// Takes the lock or renews it, and adds its name to what is locked. A lock that is gone,
// lost by a server that has crashed, is taken anew if nobody else was faster.
var lockScript = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
return 1`)

var unlockScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[2])
return 1`)

// Lock implements tokencache.Store, with one exception: a process that is paused or
// cut off for longer than Config.Lease loses the lock while it lives. What it saves
// then is refused if somebody else has saved meanwhile.
func (s *Store) Lock(ctx context.Context, name string) (unlock func() error, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	// In this process one waits for the lock on behalf of all.
	leave, err := s.gates.Enter(ctx, name)
	if err != nil {
		return nil, problem(ctx, "lock", name, err)
	}
	return s.wait(ctx, name, leave, func(context.Context) error { return nil })
}

// LockAt implements tokencache.Watcher, in the way of Lock.
func (s *Store) LockAt(ctx context.Context, name string, v tokencache.Version) (unlock func() error, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	look := func(ctx context.Context) error {
		now, err := await(ctx, func(ctx context.Context) (string, error) {
			return s.cfg.Client.HGet(ctx, s.entry(name), "version").Result()
		})
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		if err == nil && tokencache.Version(now) != v {
			err = tokencache.ErrConflict
		}
		return err
	}
	leave, err := s.gates.EnterUnless(ctx, name, look)
	if err != nil {
		return nil, problem(ctx, "lock", name, err)
	}
	return s.wait(ctx, name, leave, look)
}

// wait waits for the lock, unless a look while somebody else has it returns an error.
func (s *Store) wait(ctx context.Context, name string, leave func(), unless func(context.Context) error) (unlock func() error, err error) {
	holder := random()
	for look := lookMin; ; look = min(look*3/2, lookMax) {
		locked, err := await(ctx, func(ctx context.Context) (bool, error) { return s.takeLock(ctx, name, holder) })
		if locked && err == nil {
			return s.held(name, holder, leave), nil
		}
		if err == nil {
			if err = unless(ctx); err == nil {
				select {
				case <-time.After(look/2 + rand.N(look)):
					continue
				case <-ctx.Done():
				}
				err = ctx.Err()
			}
		} else { // It may have been taken all the same: it would end with the lease.
			go s.release(name, holder)
		}
		leave()
		return nil, problem(ctx, "lock", name, err)
	}
}

func (s *Store) takeLock(ctx context.Context, name, holder string) (bool, error) {
	n, err := lockScript.Run(ctx, s.cfg.Client, s.lockKeys(name), holder, s.cfg.Lease.Milliseconds(), name).Int()
	return n == 1, err
}

func (s *Store) release(name, holder string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	return await(ctx, func(ctx context.Context) (bool, error) {
		n, err := unlockScript.Run(ctx, s.cfg.Client, s.lockKeys(name), holder, name).Int()
		return n == 1, err
	})
}

// held renews the lock until it is unlocked.
func (s *Store) held(name, holder string, leave func()) (unlock func() error) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	lost := false // guarded by stopped
	go func() {
		defer close(stopped)
		for renew := s.cfg.Lease / 3; ; {
			select {
			case <-time.After(renew):
			case <-stop:
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), min(commandTimeout, s.cfg.Lease/3))
			mine, err := await(ctx, func(ctx context.Context) (bool, error) { return s.takeLock(ctx, name, holder) })
			cancel()
			if renew = s.cfg.Lease / 3; err != nil {
				renew = s.cfg.Lease / 30 // the server may be restarting
			} else if !mine {
				lost = true
				return
			}
		}
	}()
	var once sync.Once
	return func() (err error) {
		once.Do(func() {
			defer leave()
			close(stop)
			<-stopped
			released, releaseErr := s.release(name, holder)
			switch {
			case releaseErr != nil:
				err = fmt.Errorf("redisstore: unlock %q: %w: %s: the lock ends by itself in %v",
					name, tokencache.ErrUnavailable, harmless(releaseErr), s.cfg.Lease)
			case lost || !released:
				err = fmt.Errorf("redisstore: unlock %q: the lock was lost, because this process was paused or cut off for more than %v", name, s.cfg.Lease)
			}
		})
		return err
	}
}
