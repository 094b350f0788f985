package storetest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

func TestBeginner(t *testing.T) {
	storetest.Run(t, func(*testing.T) tokencache.Store { return newBeginner() }, storetest.Increments(100))
}

// brokenBeginners are stores that begin and end refreshes in one step, and get something wrong.
func brokenBeginners() map[string]brokenStore {
	broken := func(change func(b *beginner)) brokenStore {
		return brokenStore{open: func() tokencache.Store {
			b := newBeginner()
			change(b)
			return b
		}}
	}
	return map[string]brokenStore{
		"begin does not lock":               broken(func(b *beginner) { b.noLock = true }),
		"begin saves whatever the version":  broken(func(b *beginner) { b.begin = b.overwrite }),
		"end saves whatever the version":    broken(func(b *beginner) { b.finish = b.overwrite }),
		"end releases the lock in any case": broken(func(b *beginner) { b.always = true }),
	}
}

// A beginner is a Memory with a Begin. Its zero options are right.
type beginner struct {
	*faulty
	begin, finish func(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error)

	noLock, always bool
}

func newBeginner() *beginner {
	s := newFaulty()
	return &beginner{faulty: s, begin: s.Memory.Save, finish: s.Memory.Save}
}

func (b *beginner) LockAt(ctx context.Context, name string, v tokencache.Version) (func() error, error) {
	for {
		brief, cancel := context.WithTimeout(ctx, time.Millisecond)
		unlock, err := b.Lock(brief, name)
		cancel()
		if err == nil || ctx.Err() != nil {
			return unlock, err
		}
		if _, now, _ := b.Load(ctx, name); now != v {
			return nil, tokencache.ErrConflict
		}
	}
}

func (b *beginner) Begin(ctx context.Context, name string, data []byte, old tokencache.Version, place string) (
	v tokencache.Version, end func(context.Context, []byte, tokencache.Version) (tokencache.Version, error), unlock func() error, err error) {
	release := func() error { return nil }
	if !b.noLock {
		if release, err = b.LockAt(ctx, name, old); err != nil {
			return "", nil, nil, err
		}
	}
	if v, err = b.begin(ctx, name, data, old); err != nil {
		release()
		return "", nil, nil, err
	}
	var once sync.Once
	unlock = func() (err error) {
		once.Do(func() { err = release() })
		return err
	}
	return v, func(ctx context.Context, data []byte, old tokencache.Version) (tokencache.Version, error) {
		v, err := b.finish(ctx, name, data, old)
		if err == nil || b.always {
			unlock()
		}
		return v, err
	}, unlock, nil
}
