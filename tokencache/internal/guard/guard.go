// Package guard makes calls to a service that may be down, for many callers, without hammering
// it: not too many at once, none of them for long, and hardly any while it is down.
package guard

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	atOnce     = 32 // calls
	tolerated  = 3  // failures in a row before calls are refused
	firstPause = 250 * time.Millisecond
	maxPause   = 5 * time.Second // so that what is refused is no older
	mostFates  = 100
)

// A Guard watches the calls to one service. The zero value is ready to use.
type Guard struct {
	mu     sync.Mutex
	turns  chan struct{}
	outage map[string]outage // by fate
}

// An outage is a row of failures.
type outage struct {
	failures int
	until    time.Time // no calls before
	err      error     // of the last one
}

// Do makes a call that ends after timeout. If the last ones of the same fate have failed, it
// may return the error of the last one instead: then one caller after a pause finds out whether
// the service is back. down reports whether an error means that it is not.
func (g *Guard) Do(ctx context.Context, timeout time.Duration, fate string, call func(context.Context) error, down func(error) bool) error {
	if err := g.refuses(fate, timeout, false); err != nil {
		return err
	}
	turns := g.queue()
	select {
	case turns <- struct{}{}:
		defer func() { <-turns }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := g.refuses(fate, timeout, true); err != nil {
		return err // It has failed for others meanwhile.
	}
	brief, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := call(brief)
	if err == nil || ctx.Err() == nil { // else it was the caller who gave up
		g.note(fate, err, err != nil && down(err))
	}
	return err
}

func (g *Guard) queue() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.turns == nil {
		g.turns = make(chan struct{}, atOnce)
	}
	return g.turns
}

// refuses returns why a call is not to be made now. If it may be made during an outage, no
// other may until it has ended.
func (g *Guard) refuses(fate string, timeout time.Duration, claim bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	o, failing := g.outage[fate]
	if !failing || o.failures < tolerated {
		return nil
	}
	if wait := time.Until(o.until); wait > 0 {
		return fmt.Errorf("%w (asked again in %v)", o.err, wait.Round(10*time.Millisecond))
	}
	if claim {
		o.until = time.Now().Add(timeout)
		g.outage[fate] = o
	}
	return nil
}

func (g *Guard) note(fate string, err error, down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !down {
		delete(g.outage, fate)
		return
	}
	if g.outage == nil || len(g.outage) >= mostFates {
		g.outage = make(map[string]outage)
	}
	o := g.outage[fate]
	o.failures++
	o.err = err
	pause := min(maxPause, firstPause<<min(max(o.failures-tolerated, 0), 10))
	o.until = time.Now().Add(pause/2 + rand.N(pause/2))
	g.outage[fate] = o
}
