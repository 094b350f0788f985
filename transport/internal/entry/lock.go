package entry

import (
	"context"
	"errors"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A BusyError says that the lock could not be taken before the context was done.
type BusyError struct {
	Err  error
	Here bool // another goroutine of this process works on the login
}

func (e *BusyError) Error() string { return e.Err.Error() }
func (e *BusyError) Unwrap() error { return e.Err }

// A Lock takes the turn in this process, and then the lock that all processes share. While a
// rotation is unsaved the latter is held already; unlock then hands it back to the saver, or
// releases it if the rotation was saved meanwhile.
type Lock func(context.Context) (unlock func() error, err error)

// Lock waits until it is this caller's turn.
func (e *Entry) Lock(ctx context.Context) (unlock func() error, err error) {
	return e.lock(ctx, func(ctx context.Context) (func() error, error) { return e.lockOwn(ctx, e.cfg.Cache.Lock) })
}

// LockAt is a Lock whose error may wrap tokencache.ErrConflict if the cache holds another
// version than at.
func (e *Entry) LockAt(at tokencache.Version) Lock {
	return func(ctx context.Context) (unlock func() error, err error) {
		return e.lock(ctx, func(ctx context.Context) (func() error, error) { return e.lockOwn(ctx, e.at(at)) })
	}
}

func (e *Entry) at(at tokencache.Version) sharedLock {
	return func(ctx context.Context, key tokencache.Key) (func() error, error) {
		return e.cfg.Cache.LockAt(ctx, key, at)
	}
}

// AnnounceAfter is when a wait for a lock is announced.
const AnnounceAfter = 2 * time.Second

// Announced calls lock, and announce if that takes long. The error passed to announce says for
// whom the caller waits, if that is known.
func Announced(ctx context.Context, lock Lock, announce func(error)) (unlock func() error, err error) {
	soon, cancel := context.WithTimeout(ctx, AnnounceAfter)
	defer cancel()
	unlock, err = lock(soon)
	if err == nil || soon.Err() == nil || ctx.Err() != nil || errors.Is(err, tokencache.ErrConflict) {
		return unlock, err
	}
	announce(err)
	return lock(ctx)
}

// TakeTurn waits until no other goroutine of this process works on the entry, whatever other
// processes do, and returns a function that ends the turn. Even if ctx is done already, it
// takes a turn that is free.
func (e *Entry) TakeTurn(ctx context.Context) (end func(), err error) {
	turn := e.join()
	end = func() { <-turn; e.quit() }
	select {
	case turn <- struct{}{}:
		return end, nil
	default:
	}
	select {
	case turn <- struct{}{}:
		return end, nil
	case <-ctx.Done():
		e.quit()
		return nil, &BusyError{Err: context.Cause(ctx), Here: true}
	}
}

// join returns the channel in which a send takes the turn, and quit forgets it when nobody
// works on the entry, so that an idle login does not keep it.
func (e *Entry) join() chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.turn == nil {
		e.turn = make(chan struct{}, 1)
	}
	e.present++
	return e.turn
}

func (e *Entry) quit() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.present--; e.present == 0 {
		e.turn = nil
	}
}

// A sharedLock takes the lock on an entry that all processes share.
type sharedLock func(context.Context, tokencache.Key) (unlock func() error, err error)

// lock takes the turn, and calls share for the lock that all processes share.
func (e *Entry) lock(ctx context.Context, share Lock) (unlock func() error, err error) {
	end, err := e.TakeTurn(ctx)
	if err != nil {
		return nil, err
	}
	locked := false
	defer func() { // also if the Store panics
		if !locked {
			end()
		}
	}()
	var release func() error
	if p := e.pending; p != nil && p.unlock != nil {
		release, p.unlock = p.unlock, nil
	} else if release, err = share(ctx); err != nil {
		if ctx.Err() != nil {
			err = &BusyError{Err: err}
		}
		return nil, err
	}
	locked = true
	return func() error {
		defer end()
		if p := e.pending; p != nil && p.rec.RefreshToken != "" {
			p.unlock = release // The saver will unlock.
			return nil
		}
		return release()
	}, nil
}
