package transport

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// pending is a rotation that the provider has carried out and that could not be
// saved: the state unsaved. The lock of the login is kept, because whoever reads
// the cache meanwhile would spend a token that is spent; without a refresh token
// nothing is, and the lock is free.
type pending struct {
	rec     *tokencache.Record
	version tokencache.Version // what it is to replace
	unlock  func() error       // nil while somebody is at work on the login
	over    chan struct{}      // closed when it need not be saved any more
}

const (
	saveTimeout    = 10 * time.Second // of one attempt to save, or to do anything else with the cache
	saveTries      = 3                // before callers get the token unsaved
	saveRetryFirst = 100 * time.Millisecond
	saveRetryMax   = time.Second
)

// save stores next in place of version, and returns the record that is the login
// from now on: next, or a newer one that it found, or nil if the user has logged
// out. If it cannot be stored, the Source goes into state unsaved, and next is
// returned all the same: the client works on, and saving is tried until it
// succeeds. The lock is held.
func (s *Source) save(ctx context.Context, next *tokencache.Record, version tokencache.Version) *tokencache.Record {
	pause, begun := saveRetryFirst, time.Now()
	for try := 1; ; try++ {
		saved, err := s.trySave(ctx, next, version)
		if err == nil {
			if saved == next {
				s.settled(ctx, next)
			} else {
				s.settled(ctx, nil)
			}
			return saved
		}
		if try == saveTries || time.Since(begun) >= saveTimeout {
			s.keep(ctx, next, version, err)
			return next
		}
		time.Sleep(pause)
		pause *= 2
	}
}

// trySave makes one attempt. What it returns without an error is in the store: next, or
// what has taken its place. That the store holds next is not enough, a Save has to have
// confirmed it: one that failed may have written what the next crash takes away.
func (s *Source) trySave(ctx context.Context, next *tokencache.Record, version tokencache.Version) (saved *tokencache.Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil { // The Store has failed, in its own way. The tokens are here.
			saved, err = nil, fmt.Errorf("the Store panicked with a value of type %T", r)
		}
	}()
	for range 3 {
		_, err := s.cfg.Cache.Save(ctx, s.key(), next, version)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, tokencache.ErrConflict) {
			return nil, err
		}
		// Either an earlier attempt has written although it failed, or somebody wrote
		// without the lock.
		stored, v, err := s.loadOwn(ctx, s.key())
		switch {
		case errors.Is(err, tokencache.ErrNoTrace):
			version = "" // Nobody has logged out: the store has lost it.
			continue
		case errors.Is(err, tokencache.ErrNotFound):
			return nil, nil // A logout wins over a refresh.
		case err != nil:
			return nil, err
		case stored.LoginID != next.LoginID:
			return stored, nil // A newer login wins.
		case stored.Generation > next.Generation:
			return stored, nil
		case stored.Generation == next.Generation && stored.RefreshToken != next.RefreshToken &&
			!stored.ObtainedAt.Before(next.ObtainedAt):
			// Both descend from the same refresh token, and the provider remembers the later one.
			return stored, nil
		}
		version = v
	}
	return nil, tokencache.ErrConflict
}

// keep enters the state unsaved, or stays in it. The turn is held.
func (s *Source) keep(ctx context.Context, next *tokencache.Record, version tokencache.Version, cause error) {
	first := s.pending == nil
	if first {
		s.pending = &pending{over: make(chan struct{})}
	}
	s.pending.rec, s.pending.version = next, version
	err := &Error{Kind: ErrStorage, Op: "save", Err: cause,
		Remedy: "the new tokens are only in memory; make the cache writable and keep this process running until it is saved"}
	s.mu.Lock()
	s.unsaved = err
	if first {
		s.working++ // the saver
		s.emit(ctx, Event{Type: EventUnsaved, Generation: next.Generation, Expiry: next.Expiry, Err: err}, false)
	}
	s.mu.Unlock()
	if first {
		go s.saver(s.pending.over)
	}
}

// saver retries the save until it succeeds, also if the Source is closed meanwhile: as
// long as this process lives, nobody else has the refresh token that works.
func (s *Source) saver(over <-chan struct{}) {
	defer s.ended()
	retry := newBackoff(saveRetryFirst, saveRetryMax)
	for saved := false; !saved; {
		timer := time.NewTimer(max(retry.NextBackOff(), saveRetryFirst/10))
		select {
		case <-timer.C:
		case <-over:
			timer.Stop()
			return
		}
		saved = s.trySaver()
		s.deliverSafely(context.Background())
	}
}

// trySaver is one attempt of the saver. It survives the panic of a Store.
func (s *Source) trySaver() (saved bool) {
	turn := s.turns()
	turn <- struct{}{}
	defer func() {
		<-turn
		if r := recover(); r != nil {
			s.log(context.Background(), slog.LevelError, "the Store panicked", crashed(r))
		}
	}()
	return s.savePending(context.Background()) == nil
}

// savePending tries to leave the state unsaved. The turn is held.
func (s *Source) savePending(ctx context.Context) error {
	p := s.pending
	if p == nil {
		return nil
	}
	saved, err := s.trySave(ctx, p.rec, p.version)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.unsaved
	}
	if saved == p.rec {
		s.settled(ctx, saved)
		return nil
	}
	s.settled(ctx, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if saved != nil {
		s.cur.Store(s.snapshot(saved))
		s.emit(ctx, Event{Type: EventAdopted}, false)
		return nil
	}
	s.cur.Store(nil)
	if s.dead == nil {
		s.dead = endedElsewhere()
		s.emit(ctx, Event{Type: EventLoginRequired, Err: s.dead}, false)
	}
	return nil
}

// settled leaves the state unsaved, if the Source is in it, because it has saved a
// record or, if that is nil, because what was pending need not be saved any more. The
// turn is held.
func (s *Source) settled(ctx context.Context, saved *tokencache.Record) {
	p := s.pending
	if p == nil {
		return
	}
	s.pending = nil
	close(p.over)
	s.mu.Lock()
	s.unsaved = nil
	if saved != nil {
		s.emit(ctx, Event{Type: EventSaved, Generation: saved.Generation, Expiry: saved.Expiry}, false)
	}
	s.mu.Unlock()
	if p.unlock != nil {
		if err := p.unlock(); err != nil {
			s.log(ctx, slog.LevelWarn, "unlock failed", err)
		}
	}
}

// endedElsewhere says that another process has logged the user out.
func endedElsewhere() *Error {
	return &Error{Kind: ErrLoginRequired, Op: "refresh", Remedy: "the login was ended elsewhere; log in again"}
}

// newLoginID returns the name of a new login.
func newLoginID() string { return rand.Text() }
