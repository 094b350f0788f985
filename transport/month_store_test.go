package transport_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/gate"
)

// A monthStore is a database that the replicas share. Unlike tokencache.Memory it finds what is
// idle without looking at the rest, knows which locks the dead have left, and can fail over.
type monthStore struct {
	locks gate.Gates
	down  atomic.Bool
	over  chan struct{} // closed at the end

	loads, saves, locked, lists, listed atomic.Int64

	mu          sync.Mutex
	entries     map[string]*monthEntry
	first, last *monthEntry // by when they were saved
	version     int
	interrupted map[string]bool
}

type monthEntry struct {
	name           string
	data           []byte
	version        tokencache.Version
	saved          time.Time
	before, behind *monthEntry
}

func newMonthStore() *monthStore {
	return &monthStore{over: make(chan struct{}), entries: map[string]*monthEntry{}, interrupted: map[string]bool{}}
}

// detach takes e out of the list. s.mu is held.
func (s *monthStore) detach(e *monthEntry) {
	if e.before != nil {
		e.before.behind = e.behind
	} else {
		s.first = e.behind
	}
	if e.behind != nil {
		e.behind.before = e.before
	} else {
		s.last = e.before
	}
	e.before, e.behind = nil, nil
}

func (s *monthStore) save(name string, data []byte, old tokencache.Version, at time.Time) (tokencache.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[name]
	switch {
	case e == nil && old != "", e != nil && e.version != old:
		return "", tokencache.ErrConflict
	case e == nil:
		e = &monthEntry{name: name}
		s.entries[name] = e
	default:
		s.detach(e)
	}
	s.version++
	e.data, e.version, e.saved = append(e.data[:0:0], data...), tokencache.Version(strconv.Itoa(s.version)), at
	if e.before = s.last; s.last != nil {
		s.last.behind = e
	} else {
		s.first = e
	}
	s.last = e
	return e.version, nil
}

func (s *monthStore) find(name string) (data []byte, v tokencache.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[name]; e != nil {
		return append([]byte(nil), e.data...), e.version
	}
	return nil, ""
}

// A session is the store as one replica sees it, until that dies: what it has asked for then is
// never answered and changes nothing, and its locks are free.
type session struct {
	*monthStore
	dead chan struct{}

	mu   sync.Mutex
	held map[string]func()
}

func (s *monthStore) session() *session {
	return &session{monthStore: s, dead: make(chan struct{}), held: map[string]func(){}}
}

// die ends the process.
func (s *session) die() {
	s.mu.Lock()
	held := s.held
	s.held = nil
	close(s.dead)
	s.mu.Unlock()
	for name, leave := range held {
		s.monthStore.mu.Lock()
		s.interrupted[name] = true
		s.monthStore.mu.Unlock()
		leave()
	}
}

func (s *session) isDead() bool {
	select {
	case <-s.dead:
		return true
	default:
		return false
	}
}

// gone reports whether the process is dead, but not before the whole simulation is over.
func (s *session) gone() bool {
	if !s.isDead() {
		return false
	}
	<-s.over
	return true
}

var errMonthDown = fmt.Errorf("%w: it fails over", tokencache.ErrUnavailable)

func (s *session) Load(_ context.Context, name string) ([]byte, tokencache.Version, error) {
	if s.gone() || s.down.Load() {
		return nil, "", errMonthDown
	}
	s.loads.Add(1)
	if data, v := s.find(name); v != "" {
		return data, v, nil
	}
	return nil, "", fmt.Errorf("entry %q: %w", name, tokencache.ErrNotFound)
}

func (s *session) Save(_ context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if s.gone() {
		return "x", nil
	}
	if s.down.Load() {
		return "", errMonthDown
	}
	s.saves.Add(1)
	return s.save(name, data, old, time.Now().Round(0))
}

func (s *session) Delete(context.Context, string, tokencache.Version) error {
	return errors.ErrUnsupported
}

func (s *session) Lock(ctx context.Context, name string) (unlock func() error, err error) {
	return s.lock(ctx, name, func(context.Context) error { return nil })
}

func (s *session) LockAt(ctx context.Context, name string, v tokencache.Version) (unlock func() error, err error) {
	return s.lock(ctx, name, func(context.Context) error {
		if _, now := s.find(name); now != v {
			return tokencache.ErrConflict
		}
		return nil
	})
}

func (s *session) lock(ctx context.Context, name string, look func(context.Context) error) (unlock func() error, err error) {
	if s.gone() || s.down.Load() {
		return nil, errMonthDown
	}
	s.locked.Add(1)
	leave, err := s.locks.EnterUnless(ctx, name, look)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		leave()
		return nil, errMonthDown
	}
	s.held[name] = leave
	return func() error {
		s.mu.Lock()
		leave := s.held[name]
		delete(s.held, name)
		s.mu.Unlock()
		if leave != nil {
			s.monthStore.mu.Lock()
			delete(s.interrupted, name)
			s.monthStore.mu.Unlock()
			leave()
		}
		return nil
	}, nil
}

func (s *session) ListIdle(_ context.Context, before time.Time) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if s.gone() || s.down.Load() {
			yield("", errMonthDown)
			return
		}
		s.lists.Add(1)
		var names []string
		s.monthStore.mu.Lock()
		for e := s.first; e != nil && e.saved.Before(before); e = e.behind {
			names = append(names, e.name)
		}
		s.monthStore.mu.Unlock()
		s.listed.Add(int64(len(names)))
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (s *session) Interrupted(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if s.gone() || s.down.Load() {
			yield("", errMonthDown)
			return
		}
		s.monthStore.mu.Lock()
		var names []string
		for name := range s.interrupted {
			names = append(names, name)
		}
		s.monthStore.mu.Unlock()
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (*session) Confidential() bool { return true }
