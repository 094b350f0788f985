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
	"github.com/stayauth/stayauth/transport/internal/upkeep"
)

// The longest pauses of KeepFresh: it notices within a minute that a laptop has woken up, and,
// while a login is required, within 15 s that another process has logged in.
const (
	keepFreshPause = time.Minute
	deadPause      = 15 * time.Second
	keepFreshStep  = 100 * time.Millisecond
)

// KeepFresh refreshes the token whenever that is due, until ctx is done, and returns its cause
// (context.Cause). It is for services, whose requests should not wait for a refresh after a
// quiet hour; while it runs, no request waits for a background refresh to settle. OnEvent and
// the Logger are notified of what goes wrong. A refresh token whose access token stays good is
// renewed too, about once in SourceConfig.RenewEvery. If the store loses the login and knows
// that (tokencache.LossTracker), KeepFresh puts it back as soon as somebody wants it.
func (s *Source) KeepFresh(ctx context.Context) error {
	s.keepFreshCalls.Add(1)
	defer s.keepFreshCalls.Add(-1)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { s.watchForLoss(ctx) })
	for {
		f := s.refreshIfDue(ctx)
		if f == nil {
			f = s.renewIfUnused(ctx)
		}
		if f != nil {
			f.see(ctx)
		}
		if !sleep.For(ctx, s.pause()) {
			return context.Cause(ctx)
		}
	}
}

// refreshIfDue starts a refresh in the background, if it is time for one.
func (s *Source) refreshIfDue(ctx context.Context) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := wallNow(); ctx.Err() == nil && !s.cur.Load().fresh(now) {
		return s.startInBackground(ctx, now)
	}
	return nil
}

// renewIfUnused starts a refresh in the background if the token is good but so old that the
// refresh token might die of disuse, see SourceConfig.RenewEvery.
func (s *Source) renewIfUnused(ctx context.Context) *flight {
	cur, every := s.cur.Load(), s.cfg.RenewEvery
	if cur == nil || every < 0 || !s.renewable(cur.rec) {
		return nil
	}
	due := upkeep.Rounds(every, 0)[0]
	if upkeep.Next(s.entry.Key().Name(), due.Every, cur.rec.RenewedAt().Add(due.Idle)).After(wallNow()) {
		return nil
	}
	return s.renew(ctx, &flight{renewed: cur.rec})
}

// renewable reports whether rec is to be renewed although nobody asks for its token. Where an
// access token takes the place of a refresh token, its life says when.
func (s *Source) renewable(rec *tokencache.Record) bool {
	return rec.RefreshToken != "" && rec.Tombstone == nil &&
		(rec.RefreshToken != rec.AccessToken || !s.snapshot(rec).fresh(wallNow()))
}

// renew starts f in the background, unless there is a later state of the login than the one to
// be renewed.
func (s *Source) renew(ctx context.Context, f *flight) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cur := s.cur.Load(); ctx.Err() != nil || cur != nil && newer(cur.rec, f.renewed) {
		return nil
	}
	return s.startUnlessBlocked(ctx, wallNow(), f)
}

// pause returns for how long there is nothing to do.
func (s *Source) pause() time.Duration {
	now := wallNow()
	snap := s.cur.Load()
	pause := keepFreshPause
	s.mu.Lock()
	defer s.mu.Unlock()
	blocked := s.blocked(now, false)
	switch {
	case s.dead != nil:
		pause = deadPause
	case blocked != nil:
		pause = blocked.RetryAt.Sub(now)
	case s.flight != nil:
		pause = time.Second
	case snap.fresh(now):
		pause = time.Duration(min(snap.refreshAt-now.UnixNano(), int64(keepFreshPause)))
	}
	return min(max(pause, keepFreshStep), keepFreshPause)
}

// watchForLoss puts the login back if the store has lost it and another process wants it.
func (s *Source) watchForLoss(ctx context.Context) {
	for sleep.For(ctx, entry.LossPause/2+rand.N(entry.LossPause)) {
		names, err := wantedNames(ctx, s.cfg.Cache)
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		if names[s.entry.Key().Name()] && !s.closed.Load() {
			s.restore(ctx)
		}
	}
}

// wantedNames returns the names that tokencache.Cache.Wanted returns before there is an error.
func wantedNames(ctx context.Context, cache *tokencache.Cache) (names map[string]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, entry.Timeout)
	defer cancel()
	for name, err := range cache.Wanted(ctx) {
		if err != nil {
			return names, err
		}
		if names == nil {
			names = make(map[string]bool)
		}
		names[name] = true
	}
	return names, nil
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

// Flush waits until no refresh is in flight and its result is saved. It returns nil if
// everything is stored, and otherwise the reason why not; the Source then goes on trying. If
// the result cannot be saved now, Flush waits for that until the deadline of ctx, and not at
// all if ctx has none. A program that is about to exit should call Flush or Close.
func (s *Source) Flush(ctx context.Context) error {
	for {
		saved, err := s.flush(ctx)
		if _, patient := ctx.Deadline(); err == nil || saved == nil || !patient {
			return err
		}
		select {
		case <-saved:
		case <-ctx.Done():
			return err
		}
	}
}

// flush makes one attempt. If something could not be saved, it returns a channel that is closed
// when the saver has saved it.
func (s *Source) flush(ctx context.Context) (saved <-chan struct{}, err error) {
	s.mu.Lock()
	f := s.flight
	s.mu.Unlock()
	if f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, &Error{Kind: ErrStorage, Op: "flush", Err: context.Cause(ctx), Remedy: "a refresh is still in flight"}
		}
	}
	end, err := s.entry.TakeTurn(ctx)
	if err != nil {
		return nil, &Error{Kind: ErrStorage, Op: "flush", Err: context.Cause(ctx), Remedy: "the login is still being worked on"}
	}
	defer s.deliverWithin(ctx)
	defer end()
	if err = s.savePending(ctx); err != nil {
		_, saved = s.entry.Pending()
	}
	return saved, err
}

// Close is like Flush, but the Source starts nothing afterwards: it still hands out a good
// token, but returns an error once that has expired. If it returns an error, the newest refresh
// token may not have been saved, and the login is lost if the process ends before it is: while
// the process lives, the Source goes on trying.
func (s *Source) Close(ctx context.Context) error {
	s.closed.Store(true)
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if err := s.work.Wait(ctx); err != nil {
		return &Error{Kind: ErrStorage, Op: "close", Err: err, Remedy: "everything is saved, but OnEvent or the Logger has not returned"}
	}
	return nil
}
