package transport

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A flight is one attempt to get a token, from the cache or from the provider. It is a single
// flight: all callers that need a token meanwhile share it and its outcome. It is detached from
// their contexts, because cancelling a rotation that the provider has carried out would lose
// the login.
type flight struct {
	begun    time.Time
	logins   uint32            // those of the Source when the flight last looked into the cache
	rejected tokencache.Secret // a token that an API has rejected, or ""
	instead  *Error            // if set, only the cache is asked, and this is the error if it has nothing
	wanted   bool              // a caller has no token
	calm     bool              // nothing was wrong with the login, its provider or its store at the start

	renewed *tokencache.Record // if set, this state of the login is renewed even if its token is good
	unused  bool               // by a Pool's upkeep, so that nobody needs a token unless it is wanted

	attempts atomic.Int32  // requests to the provider
	trial    chan struct{} // set if it finds out for all whether the provider is back, see Gate
	reported bool          // an outage was reported, because the answer is overdue

	awaited atomic.Bool // by a request that has ended, see transport_settle.go

	at     tokencache.Version // of the last record that was read and found to be of no use
	rec    *tokencache.Record // that record, unless it was read before, or is under the key of earlier versions
	unread bool               // it was not read, but saved by this process, see foresee
	wrong  bool               // the cache did not hold that, or could not tell
	last   tokencache.Version // of what this process has saved last; "": others have, or nobody

	late chan struct{} // closed when callers are to wait no longer
	done chan struct{} // closed when the fields below are set

	snap    *snapshot
	adopted bool // the token came from the cache
	err     error
}

// foresee lets the refresh begin with what this process has saved last, if that is cur, as the cache
// very likely still holds it. If it does not, the lock cannot be taken at that version, and what is
// there is read then.
func (f *flight) foresee(cur *snapshot) {
	if f.calm && cur.saved != "" && f.instead == nil && f.renewed == nil && f.rejected == "" {
		f.at, f.rec, f.unread = cur.saved, cur.rec, true
	}
}

// wait returns the outcome of the flight, or an error if ctx is done first or the flight takes
// too long.
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

// see waits for the end of a flight that the caller has started: until ctx is done, and then a
// little longer, so that a program that ends with ctx does not interrupt a rotation.
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

// unnoticed reports whether nobody needs the token. s.mu of its Source is held.
func (f *flight) unnoticed() bool { return f.unused && !f.wanted }

// settleTime is how long after its start a flight is waited for so as not to interrupt it.
const settleTime = 5 * time.Second

// overdue returns the error for callers that have waited for the flight long enough.
func (f *flight) overdue() *Error {
	e := &Error{Kind: ErrUnavailable, Op: "token", Err: errUnanswered, RetryAt: wallNow().Add(storagePause),
		Remedy: "another process is working on this login, or the cache is slow; the refresh goes on in the background"}
	if f.attempts.Load() > 0 {
		e.Kind, e.Remedy = ErrAmbiguous, "the provider has not answered yet and is waited for in the background; do not end this process before that if you can: see Flush"
	}
	return e
}

// brought returns the event that ends a refresh which has brought a token.
func (f *flight) brought(adopted bool) Event {
	if adopted {
		return f.end(Event{Type: EventAdopted})
	}
	return f.end(Event{Type: EventRefreshed})
}

// end returns e as the event that ends the flight.
func (f *flight) end(e Event) Event {
	e.Took, e.Attempts = max(time.Since(f.begun), 1), int(f.attempts.Load()) // Clocks may be coarse.
	return e
}
