package transport

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

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
