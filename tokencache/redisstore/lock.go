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

// The bounds of the time between two checks of a lock that others hold. It grows with the time
// already waited: many may wait for what takes long, and that is when the server has enough to
// do.
const (
	lookMin = 5 * time.Millisecond
	lookMax = 250 * time.Millisecond
)

const (
	commandTimeout = 5 * time.Second

	// minGrace is the shortest time for which a lock must have no lease before others take
	// it. It is long enough for a client to notice that its server is back.
	minGrace = 2 * time.Second
)

// Config.Lease has two parts: for lapse, a lock that nobody renews still has its lease; for the
// grace that follows it must have none, at any check, before others take it.
func (s *Store) lapse() time.Duration { return s.cfg.Lease * 2 / 3 }
func (s *Store) grace() time.Duration { return max(s.cfg.Lease/3, minGrace) }

// What lockScript is asked for.
const (
	take    = "take"    // the lock, unless it is held or its lease has lapsed
	inherit = "inherit" // the lock, even if its lease has lapsed
	renew   = "renew"   // the lease
)

// What lockScript answers.
const (
	isHeld = iota // by somebody else
	isOurs
	isLapsed // the lease, and the lock was not taken
	wasLost  // the lease was lost, and is ours again; another process may have had the lock meanwhile

	hasChanged // the entry, so that beginScript and endScript have done nothing
)

// Takes the lock or renews its lease, and first adds its name to the locked names, because that
// fails where nobody can renew a lease either. If our lease is gone, because it lapsed or a
// crashed server lost it, it is renewed unless another process was faster.
var lockScript = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
local known = redis.call('SADD', KEYS[2], ARGV[3]) == 0
if not holder and known and ARGV[4] == 'take' then return 2 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if not holder and not known and ARGV[4] == 'renew' then return 3 end
return 1`)

// Releases the lock. If our lease has lapsed it may be gone, provided that the name shows that
// nobody has taken and released the lock since; a caller that never had a lease asks for 'held'
// only.
var unlockScript = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] and (holder or ARGV[3] == 'held') then return 0 end
redis.call('DEL', KEYS[1])
local known = redis.call('SREM', KEYS[2], ARGV[2]) == 1
if holder or known then return 1 end
return 0`)

// Lock implements tokencache.Store, with one exception: a process that is paused or cut off for
// longer than Config.Lease loses the lock while it is alive. What it saves then is refused if
// another process has saved meanwhile.
func (s *Store) Lock(ctx context.Context, name string) (unlock func() error, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	// In this process one goroutine waits for the lock on behalf of all.
	leave, err := s.gates.Enter(ctx, name)
	if err != nil {
		return nil, problem(ctx, "lock", name, err)
	}
	return s.justLock(ctx, name, leave, func(context.Context) error { return nil })
}

// justLock waits for the lock and returns how to release it.
func (s *Store) justLock(ctx context.Context, name string, leave func(), unless func(context.Context) error) (unlock func() error, err error) {
	h, err := s.wait(ctx, name, leave, unless, func(ctx context.Context, how, holder string) (int, error) {
		return s.lockAs(ctx, how, name, holder)
	})
	if err != nil {
		return nil, err
	}
	return h.unlock, nil
}

// LockAt implements tokencache.Watcher, with the exception that Lock makes.
func (s *Store) LockAt(ctx context.Context, name string, v tokencache.Version) (unlock func() error, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	look := s.unlessAt(name, v)
	leave, err := s.gates.EnterUnless(ctx, name, look)
	if err != nil {
		return nil, problem(ctx, "lock", name, err)
	}
	return s.justLock(ctx, name, leave, look)
}

// unlessAt returns a function that looks whether an entry is still at a version.
func (s *Store) unlessAt(name string, v tokencache.Version) func(context.Context) error {
	return func(ctx context.Context) error {
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
}

// wait waits for the lock, which try takes if it can, but gives up if unless, which it calls while
// another process has the lock, returns an error.
func (s *Store) wait(ctx context.Context, name string, leave func(), unless func(context.Context) error,
	try func(ctx context.Context, how, holder string) (answer int, err error)) (*hold, error) {
	holder := random()
	for how, look := take, lookMin; ; look = min(look*3/2, lookMax, s.grace()/10) {
		begun := time.Now()
		answer, err := await(ctx, func(ctx context.Context) (int, error) { return try(ctx, how, holder) })
		if err != nil { // The lock may have been taken all the same, and others would wait for its lease to end.
			s.deaths.alive(name)
			go s.releaseAtLast(name, holder, "held")
			leave()
			return nil, problem(ctx, "lock", name, err)
		}
		how = take
		switch {
		case answer == isOurs:
			s.deaths.alive(name)
			return s.held(name, holder, leave), nil
		case answer != isLapsed:
			s.deaths.alive(name)
		case s.deaths.sure(name, begun, s.grace()):
			how = inherit
			continue
		}
		if answer == hasChanged {
			err = tokencache.ErrConflict
		} else if err = unless(ctx); err == nil {
			select {
			case <-time.After(look/2 + rand.N(look)):
				continue
			case <-ctx.Done():
			}
			err = ctx.Err()
		}
		leave()
		return nil, problem(ctx, "lock", name, err)
	}
}

func (s *Store) lockAs(ctx context.Context, how, name, holder string) (answer int, err error) {
	args := []any{holder, s.lapse().Milliseconds(), name, how}
	if how != renew && s.spread() { // What is saved under the lock is on another node, so its replicas do not prove that those of this one have the lock.
		return s.write(ctx, lockScript, s.lockKeys(name), args...)
	}
	return lockScript.Run(ctx, s.cfg.Client, s.lockKeys(name), args...).Int()
}

// spread reports whether a lock and its entry may be on different nodes.
func (s *Store) spread() bool {
	_, cluster := s.cfg.Client.(*redis.ClusterClient)
	return cluster || s.apart.Load()
}

func (s *Store) release(name, holder, how string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	return await(ctx, func(ctx context.Context) (bool, error) {
		n, err := unlockScript.Run(ctx, s.cfg.Client, s.lockKeys(name), holder, name, how).Int()
		return n == 1, err
	})
}

// releaseAtLast releases the lock as soon as the server is reachable: a live process must not
// seem to have died while it held the lock, nor to hold one that it does not know about.
func (s *Store) releaseAtLast(name, holder, how string) {
	for pause := time.Duration(0); ; pause = min(max(2*pause, 100*time.Millisecond), time.Second) {
		select {
		case <-time.After(pause):
		case <-s.over.Done():
			return
		}
		if _, err := s.release(name, holder, how); err == nil {
			return
		}
	}
}

// A hold is a lock that this process has. A goroutine renews its lease.
type hold struct {
	s            *Store
	name, holder string
	leave        func()

	stop, stopped chan struct{}
	once          sync.Once

	mu     sync.Mutex // is held while the lease is renewed, or end runs
	lost   bool       // somebody else may have had the lock
	called bool       // end was called, and may have released the lock
	ended  bool       // it has
}

func (s *Store) held(name, holder string, leave func()) *hold {
	h := &hold{s: s, name: name, holder: holder, leave: leave, stop: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(h.stopped)
		for pause := s.cfg.Lease / 5; pause > 0; pause = h.renew() {
			select {
			case <-time.After(pause):
			case <-h.stop:
				return
			}
		}
	}()
	return h
}

// renew renews the lease, and returns when to do so again, or 0 if there is nothing to renew.
func (h *hold) renew() (pause time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return 0
	}
	s := h.s
	ctx, cancel := context.WithTimeout(context.Background(), s.briefly())
	defer cancel()
	answer, err := await(ctx, func(ctx context.Context) (int, error) { return s.lockAs(ctx, renew, h.name, h.holder) })
	if err != nil {
		return s.cfg.Lease / 30 // the server may be restarting
	}
	if answer != isOurs {
		h.lost = true
	}
	if answer == isHeld {
		return 0
	}
	return s.cfg.Lease / 5
}

// briefly is how long an attempt to renew a lease may take: together with the pause after it, it
// is well below the grace.
func (s *Store) briefly() time.Duration { return min(commandTimeout, s.grace()/2) }

// unlock stops renewing the lease, and releases the lock unless end has done so.
func (h *hold) unlock() (err error) {
	h.once.Do(func() {
		defer h.leave()
		close(h.stop)
		<-h.stopped
		released, s := true, h.s
		if !h.ended {
			released, err = s.release(h.name, h.holder, "held or lapsed")
		}
		switch {
		case err != nil:
			go s.releaseAtLast(h.name, h.holder, "held or lapsed")
			err = fmt.Errorf("%w; trying again until it works", problem(context.Background(), "unlock", h.name, err))
		case h.ended && h.lost, !h.ended && !h.called && (h.lost || !released):
			err = fmt.Errorf("redisstore: unlock %q: the lock was lost, because this process was paused or cut off for more than %v,"+
				" or the server has forgotten it", h.name, s.cfg.Lease)
		}
	})
	return err
}
