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
	"github.com/stayauth/stayauth/transport/internal/upkeep"
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
// request waits for a refresh after a quiet hour. When an outage of the provider is over, a login
// whose turn was missed waits for the next one, for the life of a token at most, unless a request
// needs it sooner: many processes that make up for everything at once would be the next outage.
// OnEvent and the Logger are notified of what goes wrong.
//
// The logins in the store that nobody uses are renewed too, about once in
// SourceConfig.RenewEvery, so that no refresh token dies of disuse, however often the service is
// deployed. Each has its own time in that period. The processes that share the store share that
// work, and what was missed in an outage is spread over a period again. The store must be a
// tokencache.IdleLister or at least a tokencache.Lister.
//
// If the cache's store is a tokencache.Recoverer, KeepFresh also makes up for refreshes that
// were interrupted when another process died, within seconds, whether or not there are requests
// for that login: any later, the provider may take the refresh token for stolen.
//
// It also checks that the store still has the logins that are in memory: some of them every two
// seconds or so, and all of them if one is gone. What the store has lost
// (tokencache.ErrNoTrace) is put back; meanwhile a caller that needs a login which is not in
// memory waits some seconds for it. A store that knows what it has lost is asked what is wanted
// (tokencache.LossTracker).
func (p *Pool) KeepFresh(ctx context.Context) error { return p.keepFresh(ctx, p.watchForLosses) }

func (p *Pool) keepFresh(ctx context.Context, watch func(context.Context)) error {
	p.keepFreshCalls.Add(1)
	defer p.keepFreshCalls.Add(-1)
	var work sync.WaitGroup
	defer work.Wait()
	// Interrupted refreshes do not queue behind those that are merely due.
	interrupted, due := p.limited(ctx, &work), p.limited(ctx, &work)
	work.Go(func() { p.recoverInterrupted(ctx, interrupted) })
	work.Go(func() { watch(ctx) })
	work.Go(func() { p.renewUnused(ctx, due) })
	for pass, last := firstPass, wallNow(); ; {
		begun := wallNow()
		shortest, err := p.pass(ctx, pass, last, due)
		if err != nil {
			return err
		}
		last = begun
		pass = firstPass
		if shortest > 0 {
			pass = min(max(shortest/passesInTime, minPass), maxPass)
		}
	}
}

// A limiter runs functions in the background, a number of them at a time: it waits for a free
// slot, and returns an error if the context of KeepFresh is done first.
type limiter func(func()) error

// limited returns a limiter for PoolConfig.MaxRefreshes.
func (p *Pool) limited(ctx context.Context, work *sync.WaitGroup) limiter {
	slots := make(chan struct{}, p.refresh)
	return func(f func()) error {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		work.Go(func() {
			defer func() { <-slots }()
			f()
		})
		return nil
	}
}

// seeIfDue refreshes the token if it is time for that.
func (s *Source) seeIfDue(ctx context.Context) {
	if f := s.refreshIfDue(ctx); f != nil {
		f.see(ctx)
	}
}

// due reports whether s, whose token is not fresh, should be refreshed now. A login that was
// never read from the cache can wait for the first request, but an attempt that has failed is
// repeated. A login that has ended is left alone: the next request will find out whether
// there is a new one.
func (s *Source) due(now, last time.Time, logins int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur, o := s.cur.Load(), s.outage
	switch {
	case s.flight != nil, s.dead != nil, s.blocked(now, false) != nil:
		return false
	case o != nil && within(now, o.since.Add(urgentTime), urgentTime):
		return true
	}
	return (cur != nil || o != nil) && cur.turn(s.account, logins, last, now)
}

// pass looks at every login in memory once, over the time d. The last pass began at last. It
// returns the shortest time that any token leaves for its refresh, or 0 if none is known.
func (p *Pool) pass(ctx context.Context, d time.Duration, last time.Time, limit limiter) (shortest time.Duration, err error) {
	logins := p.inMemory()
	if logins == 0 { // Do not wake up in vain.
		if !sleep.For(ctx, d) {
			return 0, context.Cause(ctx)
		}
		return 0, nil
	}
	for step := range passSteps {
		last := p.cfg.gate.missed(last, wallNow())
		for i := range p.shards {
			due, window := p.shards[i].due(step, last, logins)
			if shortest == 0 || window > 0 && window < shortest {
				shortest = window
			}
			for _, s := range due {
				if err := limit(func() { s.seeIfDue(ctx) }); err != nil {
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
func (p *Pool) recoverInterrupted(ctx context.Context, limit limiter) {
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
			if limit(func() { s.seeIfDue(ctx) }) != nil {
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
	rec.Select(s.cfg.entries.Target)
	if cur := s.cur.Load(); cur.fresh(wallNow()) && !newer(cur.rec, rec) {
		s.cur.CompareAndSwap(cur, s.snapshot(rec))
	}
}

// renewUnused renews the logins of the store that nobody uses, see SourceConfig.RenewEvery.
func (p *Pool) renewUnused(ctx context.Context, limit limiter) {
	every := p.cfg.RenewEvery
	if every < 0 {
		return
	}
	pause := upkeep.Pause(every, 0)
	for last := (time.Time{}); ; {
		begun := wallNow()
		due, err := p.unused(ctx, p.cfg.gate.missed(upkeep.From(last, begun, pause), begun), begun)
		pause = upkeep.Pause(every, wallNow().Sub(begun))
		if err == nil {
			last = begun
		} else if p.upkeepFailed(ctx, err); errors.Is(err, errors.ErrUnsupported) {
			return
		}
		for _, rec := range due {
			if limit(func() { p.renew(ctx, rec) }) != nil {
				return
			}
		}
		if !sleep.For(ctx, begun.Add(pause/2+rand.N(pause)).Sub(wallNow())) {
			return
		}
	}
}

// unused returns the logins of the pool that nobody uses and whose time has come, as far as they
// can be listed. The records say no more than which state of which login was seen.
func (p *Pool) unused(ctx context.Context, from, to time.Time) (due []*tokencache.Record, failed error) {
	for _, r := range upkeep.Rounds(p.cfg.RenewEvery, p.cfg.idleTime) {
		for rec, err := range p.cfg.Cache.Idle(ctx, to.Add(-r.Idle), r.Wanted(from, to)) {
			switch {
			case errors.Is(err, tokencache.ErrCorrupt): // Perhaps it belongs to another program.
				p.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "stayauth: an unused login cannot be read", slog.String("err", err.Error()))
			case err != nil:
				failed = err
			case !p.cfg.entries.Owns(rec) || rec.RefreshToken == "" || rec.Tombstone != nil:
			case rec.IsCopy():
				p.upkeepFailed(ctx, copyError(rec))
			default:
				due = append(due, &tokencache.Record{Key: rec.Key, LoginID: rec.LoginID, Generation: rec.Generation})
			}
		}
	}
	return due, failed
}

// renew renews a login if it is still in the state that was seen.
func (p *Pool) renew(ctx context.Context, seen *tokencache.Record) {
	account := seen.Key.Account
	s := p.visit(account)
	_, rec, _, err := s.entry.Locate(ctx)
	if err != nil || rec.LoginID != seen.LoginID || rec.Generation != seen.Generation || !s.renewable(rec) {
		return
	}
	f := s.renew(ctx, &flight{renewed: rec, unused: true})
	if f == nil {
		return
	}
	f.see(ctx)
	select {
	case <-f.done:
		s.mu.Lock()
		unknown := s.outage != nil && s.outage.lost
		s.mu.Unlock()
		if !unknown {
			if f.err == nil || errors.Is(f.err, ErrLoginRequired) {
				p.upkeepFails.Store(false)
			} else {
				p.upkeepFailed(ctx, f.err)
			}
			return
		}
	default:
	}
	// If the refresh token was spent and the answer is lost, the provider accepts it again
	// for some time only. A login in memory is tried again in time.
	p.Source(account)
}

// upkeepFailed warns once that the logins that nobody uses cannot be renewed, until one was.
func (p *Pool) upkeepFailed(ctx context.Context, err error) {
	level := slog.LevelWarn
	if p.upkeepFails.Swap(true) || ctx.Err() != nil {
		level = slog.LevelDebug
	}
	p.cfg.Logger.LogAttrs(ctx, level, "stayauth: unused logins cannot be renewed", slog.String("err", err.Error()))
}
