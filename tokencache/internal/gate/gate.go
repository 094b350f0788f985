// Package gate makes the goroutines of a process take turns before one of them waits,
// for all, for a lock that processes share.
package gate

import (
	"context"
	"sync"
)

// Gates are locks by name whose waiters can give up. The zero value is ready to use.
// Names that nobody uses take no memory.
type Gates struct {
	mu sync.Mutex
	m  map[string]*gate
}

type gate struct {
	turn  chan struct{}
	users int // who is in or waits
}

// Enter waits for the gate called name until ctx is done. Its error is ctx.Err(). To
// call leave again does nothing.
func (g *Gates) Enter(ctx context.Context, name string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	here := g.join(name)
	select {
	case here.turn <- struct{}{}:
		return g.leave(name, here), nil
	case <-ctx.Done():
		g.part(name, here)
		return nil, ctx.Err()
	}
}

// TryEnter is Enter for who does not wait: ok is false if somebody is in.
func (g *Gates) TryEnter(name string) (leave func(), ok bool) {
	here := g.join(name)
	select {
	case here.turn <- struct{}{}:
		return g.leave(name, here), true
	default:
		g.part(name, here)
		return nil, false
	}
}

func (g *Gates) leave(name string, here *gate) func() {
	return sync.OnceFunc(func() {
		<-here.turn
		g.part(name, here)
	})
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
