package entry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// pending is a rotation that the provider has carried out and that could not be saved: the
// state unsaved. The lock on the login is held meanwhile, because any process that reads the
// cache would present a refresh token that is spent. If the login has no refresh token, there
// is no such danger, and the lock is released.
type pending struct {
	rec     *tokencache.Record
	version tokencache.Version // the version that it is to replace
	unlock  func() error       // nil while a goroutine has the turn
	over    chan struct{}      // closed when it need not be saved any more
}

const saveTries = 3 // attempts before callers get the token unsaved

// The pause after the first attempt to save, and the longest pause.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = time.Second
)

// An Outcome is what became of a rotation that was to be saved.
type Outcome struct {
	Rec *tokencache.Record // the login from now on; nil: the user has logged out

	Unsaved error // why Rec is in memory only: the entry is in state unsaved
	Entered bool  // it was not before

	Saved     bool // Rec was unsaved, and is saved
	Left      bool // the state unsaved has ended, one way or another
	Unlocking error
}

// Replace stores next in place of version. The outcome has the login from now on: next, or a
// newer one that it found, or none if the user has logged out. If start has begun the refresh,
// the lock is released with the save. If next cannot be stored, the entry enters the state unsaved,
// and next is the login all the same: the client carries on, and SavePending is to be called until
// it succeeds. The lock is held.
func (e *Entry) Replace(ctx context.Context, next *tokencache.Record, version tokencache.Version, start *Start) Outcome {
	pause, begun := firstPause, time.Now()
	for try := 1; ; try++ {
		saved, err := e.TrySave(ctx, next, version, start)
		switch {
		case err == nil:
			return e.leave(saved, saved == next)
		case try == saveTries || time.Since(begun) >= Timeout:
			entered := e.pending == nil
			if entered {
				e.pending = &pending{over: make(chan struct{})}
			}
			e.pending.rec, e.pending.version = next, version
			return Outcome{Rec: next, Unsaved: err, Entered: entered}
		}
		time.Sleep(pause)
		pause *= 2
	}
}

// TrySave makes one attempt. What it returns without an error is in the store: next, or what
// has taken its place. It is not enough that the store holds next, a Save must have confirmed
// it: one that failed may have written what the next crash takes away.
func (e *Entry) TrySave(ctx context.Context, next *tokencache.Record, version tokencache.Version, start *Start) (saved *tokencache.Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	defer func() {
		// The Store has failed, if in its own way. The tokens are still here.
		if r := recover(); r != nil {
			saved, err = nil, fmt.Errorf("the Store panicked with a value of type %T", r)
		}
	}()
	saving := next
	for range 3 {
		_, err := start.save(ctx, e, saving, version)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, tokencache.ErrConflict) {
			return nil, err
		}
		// Either an earlier attempt has written although it failed, or something wrote
		// without the lock.
		stored, v, err := e.Read(ctx)
		switch {
		case errors.Is(err, tokencache.ErrNoTrace):
			version = "" // Nobody has logged out: the store has lost it.
			saving = inDoubt(next, wallNow())
			continue
		case errors.Is(err, tokencache.ErrNotFound):
			return nil, nil // A logout wins over a refresh.
		case err != nil:
			return nil, err
		case wins(stored, next):
			return stored, nil
		}
		version = v
		saving = inDoubt(next, replacing(stored))
	}
	return nil, tokencache.ErrConflict
}

// Pending returns what is unsaved, and a channel that is closed when it need not be saved any
// more, or nil. The turn is held.
func (e *Entry) Pending() (rec *tokencache.Record, over <-chan struct{}) {
	if e.pending == nil {
		return nil, nil
	}
	return e.pending.rec, e.pending.over
}

// Amend changes what is unsaved. The turn is held.
func (e *Entry) Amend(rec *tokencache.Record) { e.pending.rec = rec }

// SavePending tries to leave the state unsaved. The turn is held.
func (e *Entry) SavePending(ctx context.Context) (out Outcome, err error) {
	p := e.pending
	if p == nil {
		return out, nil
	}
	saved, err := e.TrySave(ctx, p.rec, p.version, new(Start))
	if err != nil {
		return out, err
	}
	return e.leave(saved, saved == p.rec), nil
}

// Drop leaves the state unsaved, if the entry is in it, because what was pending need not be
// saved any more. The turn is held.
func (e *Entry) Drop() Outcome { return e.leave(nil, false) }

func (e *Entry) leave(rec *tokencache.Record, saved bool) Outcome {
	out := Outcome{Rec: rec}
	p := e.pending
	if p == nil {
		return out
	}
	out.Left, out.Saved = true, saved
	e.pending = nil
	close(p.over)
	if p.unlock != nil {
		out.Unlocking = p.unlock()
	}
	return out
}

// KeepSaving calls try until that reports success or over is closed.
func KeepSaving(over <-chan struct{}, try func() bool) {
	pause := sleep.NewBackOff(firstPause, maxPause)
	for saved := false; !saved; {
		timer := time.NewTimer(max(pause.NextBackOff(), firstPause/10))
		select {
		case <-timer.C:
			saved = try()
		case <-over:
			timer.Stop()
			return
		}
	}
}
