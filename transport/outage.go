package transport

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/renewal"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// An outage is what is known between a failure and the next success, of one login or of a
// provider (see Gate). It throttles attempts: it decides when the next one may be made.
//
// There are two such times. There is no hurry while a token is good or while nobody asks for
// one: attempts become rarer and rarer, though several still fit into the rest of a token's
// life. But while a caller has no token, the next attempt is due within seconds, so that a
// provider that is back is found soon.
type outage struct {
	since time.Time // of its first failure
	err   *Error    // why the last attempt failed; its RetryAt is when the next may be made
	soon  pause     // until a caller without a good token may make another attempt
	due   pause     // until what is spent may be presented, whatever a question brings

	backoff *backoff.ExponentialBackOff
	least   time.Duration // the shortest pause, if it is longer than minPause
	lost    bool          // the outcome of some attempt is unknown
	quiet   bool          // callers got its first error, so it need not be logged
	untold  bool          // nobody uses the login, so no event has reported the outage
}

const (
	misconfiguredPause = 5 * time.Minute  // only a person can help, so there is no hurry
	wholePause         = 30 * time.Second // a repetition any sooner could be taken for theft
	storagePause       = 2 * time.Second  // the cache is cheap to ask, and users wait for it
	copyPause          = 30 * time.Second // a person has to decide
	longestPause       = 2 * time.Minute  // with full jitter; the mean is half of it
	minPause           = 100 * time.Millisecond

	soonest    = 10 * time.Second // the longest pause while callers have no token
	urgentTime = time.Minute      // how long KeepFresh repeats what has failed as soon as it may
)

// fail records a failure at the given time. presented says that a refresh was requested, and not
// only a question asked: that puts off the next question, but not what is due. left is how much
// longer the token in use is good. fail returns a copy of e with the time of the next attempt; e
// itself is shared.
func (o *outage) fail(now time.Time, e *Error, presented bool, left time.Duration) *Error {
	first := o.backoff == nil
	if first {
		o.backoff, o.since = sleep.NewBackOff(time.Second, longestPause/2), now
	}
	wait := o.backoff.NextBackOff()
	if left > 0 {
		wait = min(wait, max(left/6, 5*time.Second))
	}
	soon := soonest - rand.N(soonest/8) // Clients should not come back all at once.
	if e.whole() {                      // The next answer will be no better, and may cost the login.
		wait = max(wait, wholePause)
		soon = wait
	}
	switch e.Kind {
	case ErrMisconfigured, ErrLoginRequired:
		wait = e.repairTime()
		soon = wait
	case ErrStorage:
		if wait = min(wait, storagePause); errors.Is(e.Err, tokencache.ErrCopy) {
			wait = copyPause
		}
	case ErrAmbiguous:
		o.lost = true
	}
	least := max(min(e.RetryAfter, renewal.LongestRetryAfter), minPause, o.least)
	if e.Status == http.StatusTooManyRequests { // Each attempt is one more, in every process.
		least = max(least, min(now.Sub(o.since)/60, longestPause))
	}
	c := *e
	c.RetryAt = now.Add(max(wait, least))
	o.err, o.soon = &c, pause{now, now.Add(max(min(wait, soon), least))}
	if first || presented {
		o.due = pause{now, c.RetryAt}
	}
	return o.err
}

// isDue reports whether the pause since the last presentation is over.
func (o *outage) isDue(now time.Time) bool {
	return o == nil || !o.due.lasts(now)
}

// blocks returns why the provider must not be asked now, or nil. wanted says that a caller has
// no token.
func (o *outage) blocks(now time.Time, wanted bool) *Error {
	if o == nil {
		return nil
	}
	p := pause{o.soon.from, o.err.RetryAt}
	if wanted {
		p = o.soon
	}
	if !p.lasts(now) {
		return nil
	}
	c := *o.err
	c.RetryAt = p.until
	return &c
}

// A Gate stands between all logins of one Refresher and their provider, and throttles them
// while the provider is down: one login finds out whether it is back, and the others wait for
// the result, so that they do not ask one by one, however many there are. What a Gate knows
// outlives the Sources, of which a Pool may hold only some in memory. The zero value is open.
//
// A Refresher hands out its Gate in its Identity. A Gate must not be copied after first use.
type Gate struct {
	mu     sync.Mutex
	outage *outage       // nil: open
	first  any           // the login that failed first, for a reason that may be its own
	asking chan struct{} // closed when the trial is over; nil: there is none
	queue  int           // how many wait for the trial
	opened time.Time     // when the last outage that was not short was over
}

// trialTime is how long others wait for a trial that has not asked the provider yet.
const trialTime = time.Second

// spread is the mean time between the logins that are let in once a trial has found the
// provider well again, and maxSpread is the longest time until all of them are in.
const (
	spread    = 10 * time.Millisecond
	maxSpread = 3 * time.Second
)

// gatePause is the shortest pause between two trials; it is drawn from one to two times this. A
// back-off with full jitter may be next to nothing, and behind a gate there is always some
// login that asks at once.
const gatePause = time.Second

// blocks returns why the provider must not be asked now, or nil.
func (g *Gate) blocks(now time.Time, wanted bool) *Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.asking == nil:
		return g.outage.blocks(now, wanted)
	case wanted || g.outage == nil:
		return nil // the trial will tell
	}
	e := *g.outage.err // Those in no hurry would only come at once when it has.
	e.RetryAt = now.Add(trialTime)
	return &e
}

// shut reports whether the provider is known to be down.
func (g *Gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.outage != nil
}

// due reports whether a presentation is due even though there is no hurry.
func (g *Gate) due(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.outage.isDue(now)
}

// enter waits while another login finds out whether the provider is back. If it returns a
// trial, the caller has to find that out for all, and to call leave with it.
func (g *Gate) enter(ctx context.Context, wanted bool) (trial chan struct{}, err error) {
	var known *Error // the failure when the caller began to wait
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
			if waited && g.outage.err != known { // The wait was in vain.
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

// leave ends a trial that enter has begun: the logins that wait may go on. A second call does
// nothing.
func (g *Gate) leave(trial chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if trial != nil && g.asking == trial {
		close(g.asking)
		g.asking, g.queue = nil, 0
	}
}

// failed records an attempt that failed at the provider, and the login that made it. presented
// is that of outage.fail.
func (g *Gate) failed(login any, e *Error, presented, trial bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.outage != nil && !trial:
		return // It was sent before the outage was known.
	case g.outage == nil && !everybodys(e) && (g.first == nil || g.first == login):
		g.first = login
		return
	}
	if g.outage == nil {
		g.outage = &outage{least: gatePause + rand.N(gatePause)}
	}
	g.outage.fail(wallNow(), e, presented, 0)
}

// everybodys reports whether a failure is certainly not about one login. A 500 may be about the
// data of one user.
func everybodys(e *Error) bool {
	switch e.Status {
	case 0:
		return e.Kind == ErrUnavailable || errors.Is(e, errUnanswered)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// open records that the provider answers.
func (g *Gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := wallNow(); g.outage != nil && now.Sub(g.outage.since) >= shortOutage {
		g.opened = now
	}
	g.outage, g.first = nil, nil
}

// shortOutage is an outage whose end brings no herd: what it has delayed is refreshed at once.
const shortOutage = time.Minute

// missed returns last, or the end of an outage that came later: what was due before is not made
// up for, as each process would do that for all that was due since its last look.
func (g *Gate) missed(last, now time.Time) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened.After(last) && !g.opened.After(now) {
		return g.opened
	}
	return last
}

// answered records the end of an attempt. Any answer, whatever it says, shows that the provider
// is there.
func (g *Gate) answered(login any, trial chan struct{}, err error) {
	if err != nil {
		e := asError(err)
		if e.Status == 0 && e.Field != "" { // The program could not make the request.
			g.leave(trial)
			return
		}
		if e.Kind == ErrUnavailable || e.Kind == ErrAmbiguous {
			g.failed(login, e, true, trial != nil)
			return
		}
	}
	g.open()
	g.leave(trial)
}
