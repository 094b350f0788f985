package transport

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
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
	refresher := func() (refresh func(*Source) error) {
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
	// What was interrupted does not queue behind what is merely due.
	work.Go(func() { p.recoverInterrupted(ctx, refresher()) })
	work.Go(func() { p.watchForLosses(ctx) })
	refresh := refresher()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pass := firstPass; ; {
		shortest := time.Duration(0) // of the times that tokens leave for a refresh
		for step := range passSteps {
			select {
			case <-timer.C:
				timer.Reset(pass / passSteps)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			for i := range p.shards {
				due, window := p.shards[i].due(step)
				if shortest == 0 || window > 0 && window < shortest {
					shortest = window
				}
				for _, s := range due {
					if err := refresh(s); err != nil {
						return err
					}
				}
			}
		}
		pass = firstPass
		if shortest > 0 {
			pass = min(max(shortest/passesInTime, minPass), maxPass)
		}
	}
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
