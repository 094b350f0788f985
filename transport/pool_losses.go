package transport

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

const (
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
		pause := entry.LossPause/2 + rand.N(entry.LossPause)
		if len(again) > 0 {
			pause = againPause
		}
		if in, lost := p.cfg.losses.Due(checked); lost && !checked.IsZero() {
			pause = min(pause, max(in, entry.ReloadPause))
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
		if in, lost := p.cfg.losses.Due(checked); lost && in == 0 {
			checked, again = wallNow(), p.latestFirst()
		}
		again = append(again, p.wanted(ctx)...)
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

// wanted returns the logins in memory that the store has lost and that another process wants.
func (p *Pool) wanted(ctx context.Context) (logins []*Source) {
	names, _ := wantedNames(ctx, p.cfg.Cache)
	for i := range p.shards {
		if len(names) == 0 {
			break // as usual
		}
		for _, s := range p.shards[i].all() {
			if s.cur.Load() != nil && names[s.entry.Key().Name()] {
				logins = append(logins, s)
			}
		}
	}
	return logins
}

// latestFirst returns the logins in memory, those with the latest tokens first: other processes
// are least likely to have them, and may put older ones back.
func (p *Pool) latestFirst() (logins []*Source) {
	obtained := make(map[*Source]time.Time)
	for i := range p.shards {
		for _, s := range p.shards[i].all() {
			if cur := s.cur.Load(); cur != nil {
				obtained[s] = cur.rec.RenewedAt()
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
