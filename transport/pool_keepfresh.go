package transport

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// The pace of KeepFresh: it looks at every login once in a pass, in so many steps,
// and takes so long over it.
const (
	passSteps    = 16
	minPass      = 200 * time.Millisecond
	firstPass    = time.Second
	maxPass      = time.Minute
	passesInTime = 4 // passes between the time to refresh and the end of a token
)

// recoverPause is the mean time between two looks for what processes that died have
// left. One of many replicas soon looks anyway, and a provider forgives for 30 seconds
// or so.
const recoverPause = 2 * time.Second

// KeepFresh refreshes the tokens of the logins in memory whenever that is due,
// until ctx is done, and returns its cause (context.Cause). Refreshes are spread over the time
// there is for them, and their number is bounded by PoolConfig.MaxRefreshes. A
// service runs it so that no request waits for a refresh after a quiet hour. What
// goes wrong is told to OnEvent and the Logger.
//
// If the cache's store is a tokencache.Recoverer, KeepFresh also makes up for refreshes
// that were interrupted when another process died, within seconds and whether or not
// anybody sends requests for that login: later, the provider may take the refresh token
// for stolen.
//
// And it looks whether the store still has the logins in memory, at one of them every two
// seconds or so, and at all if that is gone. What the store has lost (tokencache.ErrNoTrace)
// is put back.
func (p *Pool) KeepFresh(ctx context.Context) error {
	p.keepFreshCalls.Add(1)
	defer p.keepFreshCalls.Add(-1)
	var work sync.WaitGroup
	defer work.Wait()
	// What was interrupted does not queue behind what is merely due.
	work.Go(func() { p.recoverInterrupted(ctx, p.refresher(ctx, &work)) })
	work.Go(func() { p.watchForLosses(ctx) })
	refresh := p.refresher(ctx, &work)
	for pass := firstPass; ; {
		shortest, err := p.pass(ctx, pass, refresh)
		if err != nil {
			return err
		}
		pass = firstPass
		if shortest > 0 {
			pass = min(max(shortest/passesInTime, minPass), maxPass)
		}
	}
}

// refresher returns a function that refreshes a login if it is due, in the background and
// PoolConfig.MaxRefreshes at a time: it waits for its turn, and returns an error when ctx is
// done.
func (p *Pool) refresher(ctx context.Context, work *sync.WaitGroup) func(*Source) error {
	slots := make(chan struct{}, p.refresh)
	return func(s *Source) error {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		work.Go(func() {
			defer func() { <-slots }()
			if f := s.refreshIfDue(ctx); f != nil {
				f.see(ctx)
			}
		})
		return nil
	}
}

// pass looks at every login in memory once, and takes d for it. It returns the shortest time
// that any token leaves for its refresh, 0 if none is known.
func (p *Pool) pass(ctx context.Context, d time.Duration, refresh func(*Source) error) (shortest time.Duration, err error) {
	for step := range passSteps {
		for i := range p.shards {
			due, window := p.shards[i].due(step)
			if shortest == 0 || window > 0 && window < shortest {
				shortest = window
			}
			for _, s := range due {
				if err := refresh(s); err != nil {
					return 0, err
				}
			}
		}
		if !sleep.For(ctx, d/passSteps) {
			return 0, context.Cause(ctx)
		}
	}
	return shortest, nil
}

// recoverInterrupted refreshes the logins whose refresh was interrupted by the death of
// its process.
func (p *Pool) recoverInterrupted(ctx context.Context, refresh func(*Source) error) {
	for {
		for rec, err := range p.cfg.Cache.Interrupted(ctx) {
			switch {
			case errors.Is(err, errors.ErrUnsupported):
				return
			case err != nil:
				if ctx.Err() == nil {
					p.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "stayauth: no look for interrupted refreshes", slog.String("err", err.Error()))
				}
				continue
			}
			if !p.cfg.entries.Owns(rec) {
				continue // It belongs to others who share the store.
			}
			s := p.Source(rec.Key.Account)
			s.interrupted(rec)
			if refresh(s) != nil {
				return
			}
		}
		select {
		case <-time.After(recoverPause/2 + rand.N(recoverPause)):
		case <-ctx.Done():
			return
		}
	}
}

// interrupted takes note of a record from the cache whose refresh was interrupted: that
// the token in memory is still good is then no reason to wait.
func (s *Source) interrupted(rec *tokencache.Record) {
	if cur := s.cur.Load(); cur.fresh(wallNow()) && !newer(cur.rec, rec) {
		s.cur.CompareAndSwap(cur, s.snapshot(rec))
	}
}

// lossPause is the mean time between two looks for losses. It may be half as long again,
// and then newerTime leaves two seconds to put back what was lost.
const lossPause = 2 * time.Second

// maxRestores is how many logins are put back at a time.
const maxRestores = 16

// watchForLosses looks whether the store has lost logins that are in memory: at one of them
// at a time, and at all when that was lost.
func (p *Pool) watchForLosses(ctx context.Context) {
	for {
		select {
		case <-time.After(lossPause/2 + rand.N(lossPause)):
		case <-ctx.Done():
			return
		}
		if s := p.sample(); s == nil || p.closed.Load() || !s.restore(ctx) {
			continue
		}
		slots := make(chan struct{}, maxRestores)
		var work sync.WaitGroup
		for i := range p.shards {
			for _, s := range p.shards[i].all() {
				slots <- struct{}{}
				work.Go(func() {
					defer func() { <-slots }()
					s.restore(ctx)
				})
			}
		}
		work.Wait()
	}
}

// sample returns one of the logins in memory, any other the next time.
func (p *Pool) sample() *Source {
	first := rand.N(len(p.shards))
	for i := range p.shards {
		if s := p.shards[(first+i)%len(p.shards)].sample(); s != nil {
			return s
		}
	}
	return nil
}

func (sh *shard) sample() *Source {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.ring) == 0 {
		return nil
	}
	first := rand.N(len(sh.ring))
	for i := range min(maxLook, len(sh.ring)) {
		if s := sh.ring[(first+i)%len(sh.ring)]; s.cur.Load() != nil && !s.busy() {
			return s
		}
	}
	return nil
}

// restore puts the login back if the store has lost it, or has an older state of it that
// somebody else has put back. It reports whether it was lost, perhaps just now.
func (s *Source) restore(ctx context.Context) (lost bool) {
	cur := s.cur.Load()
	if cur == nil || cur.rec.RefreshToken == "" {
		return false
	}
	defer s.deliver(ctx)
	ctx, cancel := context.WithTimeout(ctx, entry.Timeout)
	defer cancel()
	for range 3 {
		key, rec, version, err := s.entry.Locate(ctx)
		switch {
		case errors.Is(err, tokencache.ErrNoTrace) && s.puttable() != nil:
			if lost = true; s.busy() {
				return true // The flight will find out.
			}
			// Under the lock, so that it does not undo a logout. Somebody who waits for what
			// we may know has it, but has put something back before.
			unlock, err := s.locked(s.entry.LockAt("")(ctx))
			if errors.Is(err, tokencache.ErrConflict) {
				continue
			}
			if err == nil {
				_, _, err = s.load(ctx)
				unlock()
			}
			if err != nil {
				s.log(ctx, slog.LevelDebug, "the store has lost the login, which could not be put back", err)
			}
			return true
		case err == nil && key == s.entry.Key() && !rec.PutBackAt.IsZero() && newer(cur.rec, rec) && !newer(rec, cur.rec):
			rec, _, err := s.entry.PutBack(ctx, cur.rec, version, rec.PutBackAt)
			if err == nil {
				s.restored(ctx, rec)
			}
			if !errors.Is(err, tokencache.ErrConflict) {
				return true
			}
			lost = true
		default: // What was put back a moment ago tells of others that were lost.
			return lost || err == nil && within(wallNow(), rec.PutBackAt.Add(newerTime), newerTime)
		}
	}
	return lost
}
