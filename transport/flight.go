package transport

import (
	"cmp"
	"context"
	"errors"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/stayauth/stayauth/tokencache"
)

// A flight is one attempt to get a token, from the cache or from the provider.
// All who need a token meanwhile share it and its outcome. It is detached from
// their contexts: to cancel a rotation that the provider has carried out would
// lose the login.
type flight struct {
	begun    time.Time
	logins   uint32            // those of the Source when the flight last looked into the cache
	refused  tokencache.Secret // a token that an API has refused, or ""
	lookOnly bool              // the provider must be left alone
	attempts int               // requests to the provider

	awaited atomic.Bool // by a request that has ended, see settle.go

	at tokencache.Version // of the record that was last looked at, and of no use

	done chan struct{} // closed when the fields below are set

	snap    *snapshot
	adopted bool // the token came from the cache
	err     error
}

// wait returns the outcome of the flight, or an error when ctx is done first.
func (f *flight) wait(ctx context.Context) (*snapshot, error) {
	select {
	case <-f.done:
		return f.snap, f.err
	default:
	}
	select {
	case <-f.done:
		return f.snap, f.err
	case <-ctx.Done():
		return nil, &Error{Kind: ErrUnavailable, Op: "token", Err: context.Cause(ctx),
			Remedy: "the refresh goes on in the background"}
	}
}

// The shortest time between two looks into the cache for what another process has
// brought: while this one may not ask the provider and has no token that an API takes,
// so that its callers fail; and while a login is required.
const (
	lookInterval     = 100 * time.Millisecond
	deadLookInterval = 10 * time.Second
)

// startInBackground starts a flight if there is none and one may start now.
// s.mu is held.
func (s *Source) startInBackground(ctx context.Context, now time.Time) *flight {
	if s.flight != nil || s.closed || s.waiting(now) {
		return nil
	}
	if s.dead != nil && !s.mayLook(now, deadLookInterval) {
		return nil // It would be a look for somebody's new login; not at each request.
	}
	return s.start(ctx, "", false)
}

// joinOrStart returns the flight that will bring a token, or an error if there
// can be none now. refused is a token that an API has refused, or "".
// s.mu is held.
func (s *Source) joinOrStart(ctx context.Context, now time.Time, refused tokencache.Secret) (*flight, error) {
	switch {
	case s.flight != nil:
		return s.flight, nil
	case s.closed:
		return nil, &Error{Kind: ErrMisconfigured, Op: "token", Remedy: "the Source was closed; use it no longer"}
	case s.waiting(now):
		// Another process may have had more luck: look, but not at every call.
		if !s.mayLook(now, lookInterval) {
			return nil, s.outage
		}
		return s.start(ctx, refused, true), nil
	}
	return s.start(ctx, refused, false), nil
}

// mayLook reports whether to look into the cache, and takes note that somebody does: not
// again before the interval is over. s.mu is held.
func (s *Source) mayLook(now time.Time, interval time.Duration) bool {
	if within(now, time.Unix(0, s.lookAt), interval) {
		return false
	}
	s.lookAt = now.Add(interval).UnixNano()
	return true
}

// waiting reports whether the provider must be left alone. s.mu is held.
func (s *Source) waiting(now time.Time) bool {
	return s.outage != nil && within(now, s.outage.RetryAt, 2*maxRetryAfter)
}

// within reports whether now lies before t, and near it: if it is far before,
// the clock was set back, and t says nothing.
func within(now, t time.Time, near time.Duration) bool {
	return now.Before(t) && t.Sub(now) <= near
}

// start starts a flight. If lookOnly, it only looks into the cache. s.mu is held.
func (s *Source) start(ctx context.Context, refused tokencache.Secret, lookOnly bool) *flight {
	if cur := s.cur.Load(); cur != nil && cur.refused {
		refused = cur.rec.AccessToken // also if an earlier flight has failed to replace it
	}
	f := &flight{begun: time.Now(), logins: s.logins, refused: refused, lookOnly: lookOnly, done: make(chan struct{})}
	s.flight = f
	ctx = detached{context.WithoutCancel(ctx)}
	s.work.Go(func() { s.fly(ctx, f) })
	return f
}

// A detached context has the values of a request, for tracing, but neither its end
// nor its net/http/httptrace hooks. Those are the request's: they must not be
// called after it, nor be shown the client secret.
type detached struct{ context.Context }

func (d detached) Value(key any) any {
	v := d.Context.Value(key)
	if _, hooks := v.(*httptrace.ClientTrace); hooks {
		return nil
	}
	return v
}

func (s *Source) fly(ctx context.Context, f *flight) {
	waiting, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	f.snap, f.err = s.look(waiting, f)
	f.adopted = f.snap != nil
	if f.snap == nil && f.err == nil && !f.lookOnly {
		f.snap, f.adopted, f.err = s.refresh(waiting, ctx, f)
	}

	s.mu.Lock()
	s.flight = nil
	switch brought := f.snap != nil && f.err == nil; {
	case !brought && s.logins != f.logins:
		// A login or logout has come between, and the failure is one of the past.
		f.snap, f.err = s.cur.Load(), nil
		if !f.snap.usable(wallNow()) {
			f.err = cmp.Or(s.dead, &Error{Kind: ErrUnavailable, Op: "token", Remedy: "there is a new login; try again"})
		}
	case f.lookOnly && !brought && !errors.Is(f.err, ErrLoginRequired):
		f.err = s.outage
	default:
		s.settle(ctx, f)
	}
	unsaved := s.unsaved != nil
	s.mu.Unlock()
	if unsaved { // Whoever gets the token, and perhaps ends the process, has been warned.
		s.tell()
	}
	close(f.done)
	s.tell()
}

// settle draws the consequences of a flight: the state that the next caller
// meets, and the events. s.mu is held.
func (s *Source) settle(ctx context.Context, f *flight) {
	if f.err == nil {
		if s.outage != nil {
			s.note(ctx, Event{Type: EventRecovered})
		}
		s.calm()
		return
	}

	e := asError(f.err)
	if e.Kind == ErrLoginRequired && e.RetryAt.IsZero() {
		if s.dead == nil || s.outage != nil {
			s.note(ctx, f.end(Event{Type: EventLoginRequired, Err: e}))
		}
		refused, lookAt := s.refused, s.lookAt
		s.calm()
		s.dead, s.refused, s.lookAt, f.err = e, refused, lookAt, e
		return
	}
	// The error gets its time of the next attempt; it is shared, so on a copy.
	first := s.outage == nil
	if s.backoff == nil {
		s.backoff = newBackoff(time.Second, 2*time.Minute)
	}
	wait := s.backoff.NextBackOff()
	if snap, now := s.cur.Load(), wallNow(); snap.usable(now) {
		// While a token is good, several attempts have to fit into the rest of its life.
		wait = min(wait, max(time.Duration(snap.useBefore-now.UnixNano())/6, 5*time.Second))
	}
	switch e.Kind {
	case ErrMisconfigured, ErrLoginRequired:
		wait = misconfiguredPause
	case ErrStorage:
		wait = min(wait, storagePause)
	case ErrAmbiguous:
		s.lost = true
	}
	c := *e
	c.RetryAt = wallNow().Add(max(wait, min(e.RetryAfter, maxRetryAfter), minPause))
	s.outage, f.err = &c, &c
	s.note(ctx, f.end(Event{Type: EventRefreshFailed, Err: &c, RetryAt: c.RetryAt}))
	if first {
		s.note(ctx, Event{Type: EventOutage, Err: &c, RetryAt: c.RetryAt})
	}
}

// end returns e as the event that ends the flight.
func (f *flight) end(e Event) Event {
	e.Took, e.Attempts = max(time.Since(f.begun), 1), f.attempts // Clocks may be coarse.
	return e
}

// calm forgets the troubles of the past. s.mu is held.
func (s *Source) calm() {
	s.outage, s.dead, s.refused, s.backoff = nil, nil, nil, nil
	s.lookAt, s.lost = 0, false
}

const (
	maxRetryAfter      = 10 * time.Minute // the longest that a provider's Retry-After is obeyed
	misconfiguredPause = 5 * time.Minute  // only a person can help, so there is no hurry
	storagePause       = 5 * time.Second  // the cache is local and cheap to ask
	minPause           = 100 * time.Millisecond
)

// newBackoff returns an exponential back-off with full jitter that never gives up.
func newBackoff(initial, longest time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(initial),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1),
		backoff.WithMaxInterval(longest),
		backoff.WithMaxElapsedTime(0), // The default gives up after 15 minutes.
	)
}

// asError returns err as an *Error. A Refresher that returns anything else has
// failed in a way that nothing is known about.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: ErrAmbiguous, Op: "refresh", Err: err}
}
