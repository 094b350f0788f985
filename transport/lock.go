package transport

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

const (
	// longestLock is how long Login, Logout and Forget wait for others that work on the login.
	// A refresh may wait for its provider for longer, but a user does not.
	longestLock = 2 * time.Minute

	// announceAfter is when they, and a refresh, say that they wait, and for whom.
	announceAfter = 2 * time.Second
)

// lock takes this process's turn and then the lock that all processes share.
// In state unsaved the latter is held already; unlock gives it back to the saver, or
// releases it if the login was saved meanwhile. A wait that a user may notice is told.
func (s *Source) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, longestLock)
	defer cancel()
	return s.lockTelling(ctx, s.cfg.Cache.Lock, "still waiting for it, for two minutes in all", func() bool { return false })
}

// lockFor takes the same for a flight. If callers wait for that, the log need not tell it
// as loud: an error tells them if it takes long.
func (s *Source) lockFor(ctx context.Context, f *flight) (unlock func(), err error) {
	return s.lockTelling(ctx, s.sharedAt(f.at), "still waiting for it, for ten seconds in all", func() bool { return f.wanted })
}

// lockAt takes the same without a word.
func (s *Source) lockAt(ctx context.Context, at tokencache.Version) (unlock func(), err error) {
	return s.lockBy(ctx, s.sharedAt(at))
}

// sharedAt is the lock whose error may wrap ErrConflict if the cache holds another version
// than at.
func (s *Source) sharedAt(at tokencache.Version) sharedLock {
	return func(ctx context.Context, key tokencache.Key) (func() error, error) {
		return s.cfg.Cache.LockAt(ctx, key, at)
	}
}

// lockTelling emits EventWaiting if it takes longer than announceAfter. quiet, which is
// called with s.mu held, says how the log is told.
func (s *Source) lockTelling(ctx context.Context, share sharedLock, remedy string, quiet func() bool) (unlock func(), err error) {
	soon, cancel := context.WithTimeout(ctx, announceAfter)
	defer cancel()
	unlock, err = s.lockBy(soon, share)
	if err == nil || soon.Err() == nil || ctx.Err() != nil || errors.Is(err, tokencache.ErrConflict) {
		return unlock, err
	}
	e := *asError(err)
	e.Remedy = remedy
	s.mu.Lock()
	s.emit(ctx, Event{Type: EventWaiting, Err: &e}, quiet())
	s.mu.Unlock()
	s.deliverSafely(ctx)
	return s.lockBy(ctx, share)
}

// A sharedLock takes the lock on an entry that all processes share.
type sharedLock func(context.Context, tokencache.Key) (unlock func() error, err error)

func (s *Source) lockBy(ctx context.Context, share sharedLock) (unlock func(), err error) {
	turn := s.turns()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, &Error{Kind: ErrUnavailable, Op: "lock", Err: context.Cause(ctx), Remedy: "this login is busy; try again"}
	}
	locked := false
	defer func() { // also if the Store panics
		if !locked {
			<-turn
		}
	}()
	var release func() error
	if p := s.pending; p != nil && p.unlock != nil {
		release, p.unlock = p.unlock, nil
	} else if release, err = s.lockOwn(ctx, func(key tokencache.Key) (func() error, error) { return share(ctx, key) }); err != nil {
		if ctx.Err() != nil {
			return nil, &Error{Kind: ErrUnavailable, Op: "lock", Err: err,
				Remedy: "another process is working on this login; try again"}
		}
		return nil, storageError("lock", err)
	}
	locked = true
	return func() {
		defer func() { <-turn }()
		if p := s.pending; p != nil && p.rec.RefreshToken != "" {
			p.unlock = release // The saver will unlock.
		} else if err := release(); err != nil {
			s.log(context.Background(), slog.LevelWarn, "unlock failed", err)
		}
	}, nil
}
