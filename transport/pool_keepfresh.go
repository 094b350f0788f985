package transport

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
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
			if !p.cfg.entries.Owns(rec) {
				continue // It belongs to another program that shares the store.
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

const (
	// lossPause is the mean time between two checks for losses. A pause may be half as long
	// again, and then entry.NewerTime still leaves two seconds to put back what was lost.
	lossPause = 2 * time.Second

	// againPause is the time between two checks of logins that other processes are working
	// on.
	againPause = time.Second

	// maxRestores is how many logins are put back at a time.
	maxRestores = 16

	// maxSamples is how many logins a check samples: one that was renewed since a loss, or
	// is in a part of the store that was not lost, shows nothing.
	maxSamples = 4
)

// watchForLosses finds out whether the store has lost logins that are in memory: it checks some
// of them at a time, and all of them if any was lost.
func (p *Pool) watchForLosses(ctx context.Context) {
	var checked time.Time // when the check of all began
	for again := []*Source(nil); ; {
		pause := lossPause/2 + rand.N(lossPause)
		if len(again) > 0 {
			pause = againPause
		}
		select {
		case <-time.After(pause):
		case <-p.cfg.losses.Seen:
		case <-ctx.Done():
			return
		}
		if p.closed.Load() {
			continue
		}
		p.checkForLosses(ctx)
		if begun := wallNow(); p.cfg.losses.Since(checked) {
			checked, again = begun, p.latestFirst()
		}
		if again = p.restore(ctx, again); !sleep.For(ctx, entry.ReloadPause) {
			return // However many losses there are, this is often enough.
		}
	}
}

// checkForLosses samples the logins in memory to find out whether the store has lost any.
func (p *Pool) checkForLosses(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, entry.Timeout)
	defer cancel()
	for range maxSamples {
		s := p.sample()
		if s == nil {
			return
		}
		if _, rec, _, err := s.entry.Locate(ctx); errors.Is(err, tokencache.ErrNoTrace) && s.puttable() != nil {
			p.cfg.losses.Missed()
			return
		} else if err == nil && p.cfg.losses.SawPutBack(rec) {
			return
		}
	}
}

// latestFirst returns the logins in memory, those with the latest tokens first: other processes
// are least likely to have them, and may put older ones back.
func (p *Pool) latestFirst() (logins []*Source) {
	obtained := make(map[*Source]time.Time)
	for i := range p.shards {
		for _, s := range p.shards[i].all() {
			if cur := s.cur.Load(); cur != nil {
				obtained[s] = cur.rec.ObtainedAt
				logins = append(logins, s)
			}
		}
	}
	slices.SortFunc(logins, func(a, b *Source) int { return obtained[b].Compare(obtained[a]) })
	return logins
}

// restore puts back those of the logins that were lost, and returns those that have to be
// checked again.
func (p *Pool) restore(ctx context.Context, logins []*Source) (again []*Source) {
	slots := make(chan struct{}, maxRestores)
	var work sync.WaitGroup
	var mu sync.Mutex
	for _, s := range logins {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			if s.restore(ctx) {
				mu.Lock()
				defer mu.Unlock()
				again = append(again, s)
			}
		})
	}
	work.Wait()
	return again
}

// sample returns one of the logins in memory at random, or nil.
func (p *Pool) sample() *Source {
	first := rand.N(len(p.shards))
	for i := range p.shards {
		if s := p.shards[(first+i)%len(p.shards)].sample(); s != nil {
			return s
		}
	}
	return nil
}

// restore puts the login back if the store has lost it or holds an older state. It reports
// whether the login has to be checked again.
func (s *Source) restore(ctx context.Context) (again bool) {
	if cur := s.cur.Load(); cur == nil || cur.rec.RefreshToken == "" {
		return false
	}
	defer s.deliver(ctx)
	restored, again, err := s.entry.Restore(ctx, s.cfg.losses, s.known, s.doing)
	if restored != nil {
		s.restored(ctx, restored)
	}
	if _, busy := errors.AsType[*entry.BusyError](err); err != nil && !busy {
		s.log(ctx, slog.LevelDebug, "the store has lost the login, which could not be put back", err)
	}
	return again
}

// doing returns what this process does with the login.
func (s *Source) doing() entry.Work {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.flight != nil && s.flight.attempts.Load() > 0:
		return entry.Spending
	case s.flight != nil, s.unsaved != nil:
		return entry.Busy
	}
	return entry.Idle
}
