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

const (
	commandTimeout = 5 * time.Second

	// minGrace is the shortest time for which a lock must be without a lease before others
	// take it. It is enough for a client to notice that its server is back.
	minGrace = 2 * time.Second
)

// Config.Lease has two parts: for so long a lock that nobody renews is held, and for the
// grace that follows it must be without a lease, at every look, before others take it.
func (s *Store) lapse() time.Duration { return s.cfg.Lease * 2 / 3 }
func (s *Store) grace() time.Duration { return max(s.cfg.Lease/3, minGrace) }

// What lockScript is asked for.
const (
	take    = "take"    // the lock, unless it is held or its lease has lapsed
	inherit = "inherit" // the lock, also if its lease has lapsed
	renew   = "renew"   // the lease
)

// What lockScript answers.
const (
	isHeld = iota // by somebody else
	isOurs
	isLapsed // and not taken
	wasLost  // and is ours again: it is not known who had it meanwhile
)

// Takes the lock or renews it, and adds its name to what is locked: first, because that
// fails where nobody can renew a lease either. A lease of ours that is gone, lapsed or
// lost by a server that has crashed, is renewed if nobody else was faster.
var lockScript = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
local known = redis.call('SADD', KEYS[2], ARGV[3]) == 0
if not holder and known and ARGV[4] == 'take' then return 2 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if not holder and not known and ARGV[4] == 'renew' then return 3 end
return 1`)

// Releases the lock. A lease of ours that has lapsed may be gone, if the name says that
// nobody has taken and released the lock since; who never had one asks for 'held' only.
var unlockScript = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] and (holder or ARGV[3] == 'held') then return 0 end
redis.call('DEL', KEYS[1])
local known = redis.call('SREM', KEYS[2], ARGV[2]) == 1
if holder or known then return 1 end
return 0`)

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
	for how, look := take, lookMin; ; look = min(look*3/2, lookMax, s.grace()/10) {
		begun := time.Now()
		answer, err := await(ctx, func(ctx context.Context) (int, error) { return s.lockAs(ctx, how, name, holder) })
		if err != nil { // It may have been taken all the same, and others would wait for its lease to end.
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
		if err = unless(ctx); err == nil {
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
	return lockScript.Run(ctx, s.cfg.Client, s.lockKeys(name), holder, s.lapse().Milliseconds(), name, how).Int()
}

func (s *Store) release(name, holder, how string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	return await(ctx, func(ctx context.Context) (bool, error) {
		n, err := unlockScript.Run(ctx, s.cfg.Client, s.lockKeys(name), holder, name, how).Int()
		return n == 1, err
	})
}

// releaseAtLast releases the lock as soon as the server is there: a process that lives
// must not seem to have died while it held it, nor to hold what it does not know of.
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

// held renews the lock until it is unlocked.
func (s *Store) held(name, holder string, leave func()) (unlock func() error) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	lost := false // guarded by stopped
	go func() {
		defer close(stopped)
		for pause := s.cfg.Lease / 5; ; {
			select {
			case <-time.After(pause):
			case <-stop:
				return
			}
			// Together, an attempt and the pause after it are well below the grace.
			ctx, cancel := context.WithTimeout(context.Background(), min(commandTimeout, s.grace()/2))
			answer, err := await(ctx, func(ctx context.Context) (int, error) { return s.lockAs(ctx, renew, name, holder) })
			cancel()
			if pause = s.cfg.Lease / 5; err != nil {
				pause = s.cfg.Lease / 30 // the server may be restarting
				continue
			}
			if answer != isOurs {
				lost = true
			}
			if answer == isHeld {
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
			released, releaseErr := s.release(name, holder, "held or lapsed")
			switch {
			case releaseErr != nil:
				go s.releaseAtLast(name, holder, "held or lapsed")
				err = fmt.Errorf("%w; trying again until it works", problem(context.Background(), "unlock", name, releaseErr))
			case lost || !released:
				err = fmt.Errorf("redisstore: unlock %q: the lock was lost, because this process was paused or cut off for more than %v,"+
					" or the server has forgotten it", name, s.cfg.Lease)
			}
		})
		return err
	}
}
