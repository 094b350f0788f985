// Package gate makes the goroutines of a process take turns, so that only one of them at a time
// waits for a lock that processes share.
//
// It is for authors of a tokencache.Store. Some locks, such as those in a database or on a
// file, have to be polled. If a thousand goroutines wanted the same one, all of them would
// poll; behind a gate, one does:
//
//	leave, err := s.gates.Enter(ctx, name)
//	if err != nil {
//		return nil, err
//	}
//	unlock, err = s.poll(ctx, name) // and leave, when unlock is called or this fails
package gate

import (
	"context"
	"sync"
	"time"
)

// Gates are locks by name, whose waiters can give up. The zero value is ready to use. Names
// that nobody uses take no memory.
type Gates struct {
	mu sync.Mutex
	m  map[string]*gate
}

type gate struct {
	turn  chan struct{}
	users int // how many are inside or wait
}

// Enter waits for the gate called name until ctx is done. Its error is ctx.Err(). Calling leave
// again does nothing.
func (g *Gates) Enter(ctx context.Context, name string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	here := g.join(name)
	select {
	case here.turn <- struct{}{}:
		return sync.OnceFunc(func() {
			<-here.turn
			g.part(name, here)
		}), nil
	case <-ctx.Done():
		g.part(name, here)
		return nil, ctx.Err()
	}
}

// The times between two calls of look by EnterUnless. They grow with the time already waited.
const (
	lookMin = 5 * time.Millisecond
	lookMax = 250 * time.Millisecond
)

// EnterUnless is Enter, but calls look now and then to find out whether waiting is still
// worthwhile. If look returns an error, EnterUnless returns that.
func (g *Gates) EnterUnless(ctx context.Context, name string, look func(context.Context) error) (leave func(), err error) {
	for pause := lookMin; ; pause = min(pause*3/2, lookMax) {
		brief, cancel := context.WithTimeout(ctx, pause)
		leave, err := g.Enter(brief, name)
		cancel()
		if err == nil || ctx.Err() != nil {
			return leave, err
		}
		if err := look(ctx); err != nil {
			return nil, err
		}
	}
}

func (g *Gates) join(name string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.m == nil {
		g.m = make(map[string]*gate)
	}
	here := g.m[name]
	if here == nil {
		here = &gate{turn: make(chan struct{}, 1)}
		g.m[name] = here
	}
	here.users++
	return here
}

func (g *Gates) part(name string, here *gate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if here.users--; here.users == 0 {
		delete(g.m, name)
	}
}
