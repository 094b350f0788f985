package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/httphooks"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// A flight is one attempt to get a token, from the cache or from the provider.
// All who need a token meanwhile share it and its outcome. It is detached from
// their contexts: to cancel a rotation that the provider has carried out would
// lose the login.
type flight struct {
	begun    time.Time
	logins   uint32            // those of the Source when the flight last looked into the cache
	refused  tokencache.Secret // a token that an API has refused, or ""
	instead  *Error            // only the cache is asked, and this is the answer if it has nothing
	wanted   bool              // somebody goes without a token
	attempts atomic.Int32      // requests to the provider
	trial    chan struct{}     // it finds out for all whether the provider is back, see Gate
	told     bool              // of an outage, because the answer is overdue

	awaited atomic.Bool // by a request that has ended, see settle.go

	at tokencache.Version // of the record that was last looked at, and of no use

	late chan struct{} // closed when those who wait are told that it takes longer
	done chan struct{} // closed when the fields below are set

	snap    *snapshot
	adopted bool // the token came from the cache
	err     error
}

// longestWait is how long a caller waits for a flight, if its context does not end before.
// A flight may go on for minutes, see package endpoint.
const longestWait = 15 * time.Second

// errUnanswered is the cause of what callers are told when they have waited for that long.
var errUnanswered = errors.New("no answer yet")

// wait returns the outcome of the flight, or an error when ctx is done first or the
// flight takes too long.
func (f *flight) wait(ctx context.Context) (*snapshot, error) {
	select {
	case <-f.done:
		return f.snap, f.err
	default:
	}
	select {
	case <-f.done:
		return f.snap, f.err
	case <-f.late:
		return nil, f.overdue()
	case <-ctx.Done():
		return nil, &Error{Kind: ErrUnavailable, Op: "token", Err: context.Cause(ctx),
			Remedy: "the refresh goes on in the background"}
	}
}

// see sees to the end of a flight that the caller has started: until ctx is done, and then
// for a moment, so that a program which ends with ctx does not interrupt a rotation.
func (f *flight) see(ctx context.Context) {
	select {
	case <-f.done:
		return
	case <-f.late:
		return
	case <-ctx.Done():
	}
	timer := time.NewTimer(time.Until(f.begun.Add(settleTime)))
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	}
}

// settleTime is how long after its begin a flight is waited for so as not to interrupt it.
const settleTime = 5 * time.Second

// overdue says that the flight takes longer than callers are made to wait.
func (f *flight) overdue() *Error {
	e := &Error{Kind: ErrUnavailable, Op: "token", Err: errUnanswered, RetryAt: wallNow().Add(storagePause),
		Remedy: "another process is working on this login, or the cache is slow; the refresh goes on in the background"}
	if f.attempts.Load() > 0 {
		e.Kind, e.Remedy = ErrAmbiguous, "the provider has not answered yet and is waited for in the background; do not end this process before that if you can: see Flush"
	}
	return e
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
	if s.flight != nil || s.closed.Load() || s.blocked(now, false) != nil {
		return nil
	}
	if s.dead != nil && !s.mayLook(now, deadLookInterval) {
		return nil // It would be a look for somebody's new login; not at each request.
	}
	return s.start(ctx, "", nil)
}

// joinOrStart returns the flight that will bring a token, or an error if there
// can be none now. refused is a token that an API has refused, or "".
// s.mu is held.
func (s *Source) joinOrStart(ctx context.Context, now time.Time, refused tokencache.Secret) (*flight, error) {
	if s.flight != nil {
		s.flight.wanted = true
		return s.flight, nil
	}
	if s.closed.Load() {
		return nil, &Error{Kind: ErrMisconfigured, Op: "token", Remedy: "the Source was closed; use it no longer"}
	}
	// Another process may have had more luck: look, but not at every call.
	blocked := s.blocked(now, true)
	if blocked != nil && !s.mayLook(now, lookInterval) {
		return nil, blocked
	}
	f := s.start(ctx, refused, blocked)
	f.wanted = true
	return f, nil
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

// blocked returns why the provider must be left alone, or nil. wanted says that somebody
// goes without a token. s.mu is held.
func (s *Source) blocked(now time.Time, wanted bool) *Error {
	own := s.outage.blocks(now, wanted)
	if s.dead != nil {
		return own // What is dead asks the cache only.
	}
	if all := s.cfg.gate.blocks(now, wanted); own == nil || all != nil && all.RetryAt.After(own.RetryAt) {
		return all
	}
	return own
}

// start starts a flight. If instead is not nil, it only looks into the cache, and callers
// get that error if there is nothing. s.mu is held.
func (s *Source) start(ctx context.Context, refused tokencache.Secret, instead *Error) *flight {
	if cur := s.cur.Load(); cur != nil && cur.refused {
		refused = cur.rec.AccessToken // also if an earlier flight has failed to replace it
	}
	f := &flight{begun: time.Now(), logins: s.logins, refused: refused, instead: instead,
		late: make(chan struct{}), done: make(chan struct{})}
	s.flight = f
	s.working++
	ctx = httphooks.Without(context.WithoutCancel(ctx))
	go func() {
		defer s.ended()
		s.fly(ctx, f)
	}()
	return f
}

// ended takes note that a goroutine of s has ended.
func (s *Source) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.working--; s.working == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

func (s *Source) fly(ctx context.Context, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	landed := false
	defer func() {
		if !landed { // Somebody's code panics, or ends the goroutine: this one is not theirs.
			f.snap, f.err = nil, crashed(recover())
		}
		s.land(ctx, f)
	}()
	go func() {
		if sleep.Running(ctx, longestWait) {
			s.overdue(ctx, f)
		}
	}()
	waiting, stop := context.WithTimeout(ctx, lockTimeout)
	defer stop()
	f.snap, f.err = s.look(waiting, f)
	f.adopted = f.snap != nil
	if f.snap == nil && f.err == nil {
		s.tellClaims(waiting)
	}
	if f.snap == nil && f.err == nil && f.instead == nil {
		f.snap, f.adopted, f.err = s.refresh(waiting, ctx, f)
		switch {
		case f.err != nil:
		case f.snap.rec.Claims != "":
			f.snap, f.err = nil, &Error{Kind: ErrUnavailable, Op: "refresh", Remedy: "the provider answers with the token that an API has refused; the claims that the API demands have to be asked for"}
		case f.snap.expiredBefore(f.begun):
			f.snap, f.err = nil, &Error{Kind: ErrUnavailable, Op: "refresh", Remedy: "the token that came had expired already; check the clock of this machine"}
		}
	}
	landed = true
}

// lockTimeout bounds the wait of a flight for the cache, and for another process that
// works on the login. It is less than longestWait, so that callers are told which it was.
const lockTimeout = 10 * time.Second

// crashed describes the panic of a Refresher, a Store, a RoundTripper. Its value may
// hold anything, so only its type is told. Without one, the goroutine was ended.
func crashed(panicked any) *Error {
	e := &Error{Kind: ErrAmbiguous, Op: "refresh", Err: errors.New("runtime.Goexit was called"),
		Remedy: "mend the Refresher, Store or RoundTripper that did it"}
	if panicked != nil {
		e.Err = fmt.Errorf("panic with a value of type %T", panicked)
	}
	return e
}

// overdue tells everybody that the flight takes longer than callers are made to wait.
func (s *Source) overdue(ctx context.Context, f *flight) {
	defer s.deliverSafely(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != f {
		return
	}
	close(f.late)
	if f.attempts.Load() == 0 {
		return
	}
	e := f.overdue()
	s.cfg.gate.failed(s, e, f.trial != nil)
	s.cfg.gate.leave(f.trial)
	if s.outage == nil && !s.cur.Load().usable(wallNow()) {
		f.told = true
		s.emit(ctx, Event{Type: EventOutage, Err: e, RetryAt: e.RetryAt}, f.wanted)
	}
}

// land ends a flight.
func (s *Source) land(ctx context.Context, f *flight) {
	s.mu.Lock()
	s.flight = nil
	switch brought := f.snap != nil && f.err == nil; {
	case !brought && s.logins != f.logins:
		// A login or logout has come between, and the failure is one of the past.
		f.snap, f.err = s.cur.Load(), nil
		if !f.snap.usable(wallNow()) {
			f.err = cmp.Or(s.dead, &Error{Kind: ErrUnavailable, Op: "token", Remedy: "there is a new login; try again"})
		}
	case f.instead != nil && !brought && !errors.Is(f.err, ErrLoginRequired):
		f.err = f.instead
	default:
		s.settle(ctx, f)
	}
	unsaved := s.unsaved != nil
	s.mu.Unlock()
	if unsaved { // Whoever gets the token, and perhaps ends the process, has been warned.
		s.deliverSafely(ctx)
	}
	close(f.done)
	s.deliverSafely(ctx)
}

// settle draws the consequences of a flight: the state that the next caller
// meets, and the events. s.mu is held.
func (s *Source) settle(ctx context.Context, f *flight) {
	if f.err == nil {
		if s.outage != nil || f.told {
			s.emit(ctx, Event{Type: EventRecovered}, f.told && f.wanted || s.outage != nil && s.outage.quiet)
		}
		s.calm()
		return
	}

	e := asError(f.err)
	if e.Kind == ErrLoginRequired && e.RetryAt.IsZero() {
		if s.dead == nil || s.outage != nil {
			s.emit(ctx, f.end(Event{Type: EventLoginRequired, Err: e}), f.wanted)
		}
		refused, lookAt := s.refused, s.lookAt
		s.calm()
		s.dead, s.refused, s.lookAt, f.err = e, refused, lookAt, e
		return
	}
	first := s.outage == nil && !f.told
	if s.outage == nil {
		s.outage = new(outage)
	}
	left := time.Duration(0) // of a token that is good
	if snap, now := s.cur.Load(), wallNow(); snap.usable(now) {
		left = time.Duration(snap.useBefore - now.UnixNano())
	}
	e = s.outage.fail(wallNow(), e, left)
	s.emit(ctx, f.end(Event{Type: EventRefreshFailed, Err: e, RetryAt: e.RetryAt}), f.wanted)
	if first {
		s.outage.quiet = f.wanted
		s.emit(ctx, Event{Type: EventOutage, Err: e, RetryAt: e.RetryAt}, f.wanted)
	}
	if f.err = e; f.wanted { // A caller without a token may come back sooner.
		c := *e
		c.RetryAt = cmp.Or(s.blocked(wallNow(), true), e).RetryAt
		f.err = &c
	}
}

// end returns e as the event that ends the flight.
func (f *flight) end(e Event) Event {
	e.Took, e.Attempts = max(time.Since(f.begun), 1), int(f.attempts.Load()) // Clocks may be coarse.
	return e
}

// calm forgets the troubles of the past. s.mu is held.
func (s *Source) calm() {
	s.outage, s.dead, s.refused, s.lookAt = nil, nil, nil, 0
}

// asError returns err as an *Error. A Refresher that returns anything else has
// failed in a way that nothing is known about.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: ErrAmbiguous, Op: "refresh", Err: err}
}
