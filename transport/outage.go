package transport

import (
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/stayauth/stayauth/transport/internal/renewal"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// An outage is what is known from a failure until the next success: of one login, or
// of a provider, see Gate. It decides when to ask again.
//
// There are two such times. Nobody has to be in a hurry while a token is good or while
// nobody asks for one: then attempts become ever more rare, and several still fit into
// the rest of a token's life. But whoever is asked for a token and has none asks again
// within seconds, so that a provider that is back is found soon.
type outage struct {
	since time.Time // of its first failure
	err   *Error    // why the last attempt failed; its RetryAt is when the next is due
	soon  time.Time // when a caller that has no good token may have another

	backoff *backoff.ExponentialBackOff
	least   time.Duration // the shortest pause, if it is longer than minPause
	lost    bool          // the outcome of an attempt is unknown
	quiet   bool          // those who were told of its begin need no log
}

const (
	misconfiguredPause = 5 * time.Minute  // only a person can help, so there is no hurry
	wholePause         = 30 * time.Second // beyond what a provider may still take for theft at once
	storagePause       = 2 * time.Second  // the cache is cheap to ask, and users wait for it
	minPause           = 100 * time.Millisecond

	soonest = 10 * time.Second // the longest pause while callers go without a token
)

// fail takes note of a failure at the given time. left is how long the token in use is
// good. It returns the error with the time of the next attempt; e is shared, so on a copy.
func (o *outage) fail(now time.Time, e *Error, left time.Duration) *Error {
	if o.backoff == nil {
		o.backoff, o.since = sleep.NewBackOff(time.Second, 2*time.Minute), now
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
		wait, soon = misconfiguredPause, misconfiguredPause
	case ErrStorage:
		wait = min(wait, storagePause)
	case ErrAmbiguous:
		o.lost = true
	}
	least := max(min(e.RetryAfter, renewal.LongestRetryAfter), minPause, o.least)
	c := *e
	c.RetryAt = now.Add(max(wait, least))
	o.err, o.soon = &c, now.Add(max(min(wait, soon), least))
	return o.err
}

// blocks returns why the provider must be left alone now, or nil. wanted says that
// somebody goes without a token.
func (o *outage) blocks(now time.Time, wanted bool) *Error {
	if o == nil {
		return nil
	}
	at := o.err.RetryAt
	if wanted {
		at = o.soon
	}
	if !within(now, at, 2*renewal.LongestRetryAfter) {
		return nil
	}
	c := *o.err
	c.RetryAt = at
	return &c
}

// within reports whether now lies before t, and near it: if it is far before,
// the clock was set back, and t says nothing.
func within(now, t time.Time, near time.Duration) bool {
	return now.Before(t) && t.Sub(now) <= near
}
