package transport

import (
	"context"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

const (
	// longestLock is how long Login, Logout and Forget wait for others that work on the login.
	// A refresh may wait for its provider for longer, but a user does not.
	longestLock = 2 * time.Minute

	// announceAfter is when they say that they wait, and for whom.
	announceAfter = 2 * time.Second
)

// lock takes this process's turn and then the lock that all processes share.
// In state unsaved the latter is held already; unlock gives it back to the saver, or
// releases it if the login was saved meanwhile. A wait that a user may notice is told.
func (s *Source) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, longestLock)
	defer cancel()
	soon, cancel := context.WithTimeout(ctx, announceAfter)
	defer cancel()
	if unlock, err = s.lockBy(soon, s.cfg.Cache.Lock); err == nil || soon.Err() == nil || ctx.Err() != nil {
		return unlock, err
	}
	e := *asError(err)
	e.Remedy = "still waiting for it, for two minutes in all"
	s.mu.Lock()
	s.note(ctx, Event{Type: EventWaiting, Err: &e})
	s.mu.Unlock()
	s.tellSafely(ctx)
	return s.lockBy(ctx, s.cfg.Cache.Lock)
}

// lockAt takes the same for a flight, whose callers are told by an error if it takes long.
// The error may wrap ErrConflict if the cache holds another version than at.
func (s *Source) lockAt(ctx context.Context, at tokencache.Version) (unlock func(), err error) {
	return s.lockBy(ctx, func(ctx context.Context, key tokencache.Key) (func() error, error) {
		return s.cfg.Cache.LockAt(ctx, key, at)
	})
}

func (s *Source) lockBy(ctx context.Context, share func(context.Context, tokencache.Key) (func() error, error)) (unlock func(), err error) {
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
