package transport

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// A Gate stands between all logins of one Refresher and their provider. While the
// provider is down, one login asks whether it is back, and the others wait for what it
// finds: as many accounts as there may be, they do not ask one by one. What it knows
// outlives the Sources, of which a Pool may hold only some. The zero value is open.
//
// A Refresher hands out its Gate in its Identity. It must not be copied after first use.
type Gate struct {
	mu     sync.Mutex
	outage *outage       // nil: open
	first  any           // the login that failed alone, in a way that may be its own
	asking chan struct{} // closed when the one that asks has found out; nil: nobody asks
	queue  int           // how many wait for that
}

// trialTime is how long others wait for a trial before it has begun to ask.
const trialTime = time.Second

// spread is how far apart in time, on average, those are let in who have waited for one
// of them to find the provider well again, and maxSpread is how long that takes at most.
const (
	spread    = 10 * time.Millisecond
	maxSpread = 3 * time.Second
)

// gatePause is how long the provider is left alone at least, and up to twice as long. A
// back-off with full jitter may be next to nothing, and behind a gate there is always
// somebody who asks at once.
const gatePause = time.Second

// blocks returns why the provider must be left alone now, or nil.
func (g *Gate) blocks(now time.Time, wanted bool) *Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asking != nil {
		return nil // which will tell
	}
	return g.outage.blocks(now, wanted)
}

// due reports whether an attempt is due although nobody is in a hurry.
func (g *Gate) due(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.outage.blocks(now, false) == nil
}

// enter waits while somebody finds out whether the provider is back. If it returns a
// trial, the caller is to find that out for all, and has to call leave with it.
func (g *Gate) enter(ctx context.Context, wanted bool) (trial chan struct{}, err error) {
	var known *Error // when the caller began to wait
	for waited := false; ; waited = true {
		g.mu.Lock()
		asking, queue := g.asking, g.queue
		switch {
		case g.outage == nil:
			g.mu.Unlock()
			if waited {
				sleep.For(ctx, rand.N(min(time.Duration(queue+1)*spread, maxSpread)))
			}
			return nil, nil
		case asking == nil:
			if waited && g.outage.err != known { // In vain, so the outage is as old as that.
				wanted = false
			}
			if blocked := g.outage.blocks(wallNow(), wanted); blocked != nil {
				g.mu.Unlock()
				return nil, blocked
			}
			trial = make(chan struct{})
			g.asking = trial
			g.mu.Unlock()
			return trial, nil
		}
		g.queue++
		known = g.outage.err
		g.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, &Error{Kind: ErrUnavailable, Op: "refresh", Err: context.Cause(ctx),
				Remedy: "another login is finding out whether the provider is back"}
		}
	}
}

// leave ends what enter has begun: those who wait may go on. To leave twice does nothing.
func (g *Gate) leave(trial chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if trial != nil && g.asking == trial {
		close(g.asking)
		g.asking, g.queue = nil, 0
	}
}

// failed takes note of an attempt that failed at the provider, and of the login that made it.
func (g *Gate) failed(login any, e *Error, trial bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.outage != nil && !trial:
		return // It was sent before that was known.
	case g.outage == nil && !everybodys(e) && (g.first == nil || g.first == login):
		g.first = login
		return
	}
	if g.outage == nil {
		g.outage = &outage{least: gatePause + rand.N(gatePause)}
	}
	g.outage.fail(wallNow(), e, 0)
}

// everybodys reports whether a failure is certainly not about one login. Providers
// answer 500 when they stumble over the data of one user.
func everybodys(e *Error) bool {
	switch e.Status {
	case 0:
		return e.Kind == ErrUnavailable || errors.Is(e, errUnanswered)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// open takes note that the provider answers.
func (g *Gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.outage, g.first = nil, nil
}

// answered takes note of how an attempt has ended. Whatever the provider has answered, it is
// there.
func (g *Gate) answered(login any, trial chan struct{}, err error) {
	if err != nil {
		if e := asError(err); e.Kind == ErrUnavailable || e.Kind == ErrAmbiguous {
			g.failed(login, e, trial != nil)
			return
		}
	}
	g.open()
	g.leave(trial)
}
