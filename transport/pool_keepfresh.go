package transport

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// The pace of KeepFresh: a pass looks at every login once, in passSteps steps, and takes from
// minPass to maxPass.
const (
	passSteps    = 16
	minPass      = 200 * time.Millisecond
	firstPass    = time.Second
	maxPass      = time.Minute
	passesInTime = 4 // passes between the time to refresh and the end of a token
)

// recoverPause is the mean time between two searches for refreshes that were interrupted when
// their processes died. With many replicas one of them soon searches anyway, and a provider
// forgives for 30 seconds or so.
const recoverPause = 2 * time.Second

// KeepFresh refreshes the tokens of the logins in memory whenever that is due, until ctx is
// done, and returns its cause (context.Cause). Refreshes are spread over the time there is for
// them, and their number is bounded by PoolConfig.MaxRefreshes. A service runs it so that no
// request waits for a refresh after a quiet hour. OnEvent and the Logger are notified of what
// goes wrong.
//
// If the cache's store is a tokencache.Recoverer, KeepFresh also makes up for refreshes that
// were interrupted when another process died, within seconds, whether or not there are requests
// for that login: any later, the provider may take the refresh token for stolen.
//
// It also checks that the store still has the logins that are in memory: some of them every two
// seconds or so, and all of them if one is gone. What the store has lost
// (tokencache.ErrNoTrace) is put back; meanwhile a caller that needs a login which is not in
// memory waits some seconds for it.
func (p *Pool) KeepFresh(ctx context.Context) error {
	p.keepFreshCalls.Add(1)
	defer p.keepFreshCalls.Add(-1)
	var work sync.WaitGroup
	defer work.Wait()
	// Interrupted refreshes do not queue behind those that are merely due.
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

// refresher returns a function that refreshes a login in the background if that is due,
// PoolConfig.MaxRefreshes at a time: it waits for a free slot, and returns an error if ctx is
// done first.
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

// pass looks at every login in memory once, over the time d. It returns the shortest time that
// any token leaves for its refresh, or 0 if none is known.
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

// recoverInterrupted refreshes the logins whose last refresh was interrupted by the death of
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
			if !p.cfg.entries.Owns(rec) || rec.IsCopy() {
				continue // It belongs to another program that shares the store, or to another store.
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

// interrupted adopts a record from the cache whose refresh was interrupted: then it must be
// made up for, even if the token in memory is still good.
func (s *Source) interrupted(rec *tokencache.Record) {
	if cur := s.cur.Load(); cur.fresh(wallNow()) && !newer(cur.rec, rec) {
		s.cur.CompareAndSwap(cur, s.snapshot(rec))
	}
}
