package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// brokenEnv names the broken store that TestBroken runs the suite against.
const brokenEnv = "STAYAUTH_STORETEST_BROKEN"

// A broken store keeps the contract but for one thing, which the check named
// caughtBy must notice.
type brokenStore struct {
	caughtBy string
	open     func() tokencache.Store
}

var errBroken = errors.New("broken")

func brokenStores() map[string]brokenStore {
	return map[string]brokenStore{
		"absent is empty": {"absent is not empty", func() tokencache.Store {
			s := newFaulty()
			s.load = func(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
				data, v, err := s.Memory.Load(ctx, name)
				if errors.Is(err, tokencache.ErrNotFound) {
					err = nil
				}
				return data, v, err
			}
			return s
		}},
		"empty is absent": {"absent is not empty", func() tokencache.Store {
			s := newFaulty()
			s.load = func(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
				data, v, err := s.Memory.Load(ctx, name)
				if err == nil && len(data) == 0 {
					return nil, "", tokencache.ErrNotFound
				}
				return data, v, err
			}
			return s
		}},
		"save without compare": {"save wants the version", func() tokencache.Store {
			s := newFaulty()
			s.save = s.overwrite
			return s
		}},
		"compare and swap in two steps": {"concurrent increments", func() tokencache.Store {
			s := newFaulty()
			s.save = func(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
				if _, v, err := s.Memory.Load(ctx, name); v != old {
					return "", errors.Join(tokencache.ErrConflict, err)
				}
				runtime.Gosched()
				return s.overwrite(ctx, name, data, old)
			}
			return s
		}},
		"delete without compare": {"delete wants the version", func() tokencache.Store {
			s := newFaulty()
			s.del = func(ctx context.Context, name string, _ tokencache.Version) error {
				_, v, _ := s.Memory.Load(ctx, name)
				return s.Memory.Delete(ctx, name, v)
			}
			return s
		}},
		"delete of nothing fails": {"delete wants the version", func() tokencache.Store {
			s := newFaulty()
			s.del = func(ctx context.Context, name string, old tokencache.Version) error {
				if _, _, err := s.Memory.Load(ctx, name); err != nil {
					return err
				}
				return s.Memory.Delete(ctx, name, old)
			}
			return s
		}},
		"takes a delete for a loss": {"delete leaves a trace", func() tokencache.Store {
			s := newFaulty()
			s.load = func(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
				data, v, err := s.Memory.Load(ctx, name)
				if errors.Is(err, tokencache.ErrNotFound) {
					err = tokencache.ErrNoTrace
				}
				return data, v, err
			}
			return s
		}},
		"takes what never was for a loss": {"delete leaves a trace", func() tokencache.Store {
			s := newFaulty()
			s.load = func(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
				data, v, err := s.Memory.Load(ctx, name)
				if errors.Is(err, tokencache.ErrNotFound) {
					err = &tokencache.LostError{}
				}
				return data, v, err
			}
			return s
		}},
		"text only": {"any bytes", func() tokencache.Store {
			s := newFaulty()
			s.load = func(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
				data, v, err := s.Memory.Load(ctx, name)
				return bytes.ToValidUTF8(data, []byte("?")), v, err
			}
			return s
		}},
		"2 560 bytes at most": {"any bytes", func() tokencache.Store {
			s := newFaulty()
			s.save = func(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
				return s.Memory.Save(ctx, name, data[:min(len(data), 2560)], old)
			}
			return s
		}},
		"names without case": {"any name", func() tokencache.Store {
			return &renaming{newFaulty(), strings.ToLower}
		}},
		"names as paths": {"any name", func() tokencache.Store {
			return &renaming{newFaulty(), filepath.Clean}
		}},
		"keeps the caller's data": {"data belongs to the caller", func() tokencache.Store {
			kept := map[string][]byte{}
			s := newFaulty()
			s.save = func(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
				kept[name] = data
				return s.Memory.Save(ctx, name, data, old)
			}
			s.load = func(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
				_, v, err := s.Memory.Load(ctx, name)
				return kept[name], v, err
			}
			return s
		}},
		"deaf to the context": {"context done", func() tokencache.Store {
			s := newFaulty()
			s.save = func(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
				return s.Memory.Save(context.WithoutCancel(ctx), name, data, old)
			}
			return s
		}},
		"no lock": {"lock excludes", func() tokencache.Store {
			s := newFaulty()
			s.lock = func(context.Context, string) (func() error, error) { return func() error { return nil }, nil }
			return s
		}},
		"lock cannot be waited for with a context": {"lock honours the context", func() tokencache.Store {
			s := newFaulty()
			s.lock = func(ctx context.Context, name string) (func() error, error) {
				// Not for ever, so that the test ends.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				return s.Memory.Lock(ctx, name)
			}
			return s
		}},
		"lock with a time to live": {"lock outlasts time", func() tokencache.Store {
			s := newFaulty()
			s.lock = func(ctx context.Context, name string) (func() error, error) {
				unlock, err := s.Memory.Lock(ctx, name)
				if err == nil {
					time.AfterFunc(300*time.Millisecond, func() { unlock() })
				}
				return unlock, err
			}
			return s
		}},
		"lock ends with the context": {"lock outlasts time", func() tokencache.Store {
			s := newFaulty()
			s.lock = func(ctx context.Context, name string) (func() error, error) {
				unlock, err := s.Memory.Lock(ctx, name)
				if err == nil {
					context.AfterFunc(ctx, func() { unlock() })
				}
				return unlock, err
			}
			return s
		}},
		"lock stops save": {"lock is apart from entries", func() tokencache.Store {
			s := newFaulty()
			s.save = func(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
				ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				unlock, err := s.Memory.Lock(ctx, name)
				if err != nil {
					return "", err
				}
				defer unlock()
				return s.Memory.Save(ctx, name, data, old)
			}
			return s
		}},
		"one lock for all entries": {"lock is apart from entries", func() tokencache.Store {
			s := newFaulty()
			s.lock = func(ctx context.Context, _ string) (func() error, error) {
				ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				return s.Memory.Lock(ctx, "all")
			}
			return s
		}},
		"unlock releases somebody else's lock": {"unlock twice", func() tokencache.Store {
			held := map[string]func() error{}
			var mu sync.Mutex
			s := newFaulty()
			s.lock = func(ctx context.Context, name string) (func() error, error) {
				unlock, err := s.Memory.Lock(ctx, name)
				if err != nil {
					return nil, err
				}
				mu.Lock()
				defer mu.Unlock()
				held[name] = unlock
				return func() error {
					mu.Lock()
					defer mu.Unlock()
					return held[name]()
				}, nil
			}
			return s
		}},
		"lists what is only locked": {"list", func() tokencache.Store {
			return &lister{newFaulty()}
		}},
		"lists what has another prefix": {"list", func() tokencache.Store {
			return &wholeLister{newFaulty()}
		}},
		"idle lists what is not idle": {"list idle", func() tokencache.Store {
			s := newFaulty()
			return &idleLister{s, func(ctx context.Context, _ time.Time) iter.Seq2[string, error] { return s.List(ctx, "") }}
		}},
		"idle lists nothing": {"list idle", func() tokencache.Store {
			s := newFaulty()
			return &idleLister{s, func(ctx context.Context, _ time.Time) iter.Seq2[string, error] { return s.ListIdle(ctx, time.Time{}) }}
		}},
		"idle since the entry was created": {"list idle", func() tokencache.Store {
			s := newFaulty()
			first := new(tokencache.Memory)
			s.save = func(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
				first.Save(ctx, name, nil, "")
				return s.Memory.Save(ctx, name, data, old)
			}
			s.del = func(ctx context.Context, name string, old tokencache.Version) error {
				_, v, _ := first.Load(ctx, name)
				return errors.Join(s.Memory.Delete(ctx, name, old), first.Delete(ctx, name, v))
			}
			return &idleLister{s, first.ListIdle}
		}},
		"idle forgets no deleted entry": {"list idle", func() tokencache.Store {
			s := newFaulty()
			saved := new(tokencache.Memory)
			s.save = func(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
				v, err := s.Memory.Save(ctx, name, data, old)
				if err == nil {
					_, last, _ := saved.Load(ctx, name)
					saved.Save(ctx, name, nil, last)
				}
				return v, err
			}
			return &idleLister{s, saved.ListIdle}
		}},
		"idle is over with a lock": {"list idle", func() tokencache.Store {
			s := newFaulty()
			s.lock = func(ctx context.Context, name string) (func() error, error) {
				if data, v, err := s.Memory.Load(ctx, name); err == nil {
					s.Memory.Save(ctx, name, data, v)
				}
				return s.Memory.Lock(ctx, name)
			}
			return s
		}},
		"preflight leaves something": {"preflight", func() tokencache.Store {
			return &preflighter{newFaulty(), func(s tokencache.Store, ctx context.Context, name string) error {
				_, err := s.Save(ctx, name, nil, "")
				return err
			}}
		}},
		"preflight always fails": {"preflight", func() tokencache.Store {
			return &preflighter{newFaulty(), func(tokencache.Store, context.Context, string) error { return errBroken }}
		}},
		"lock at a version sees no change": {"lock at a version", func() tokencache.Store {
			s := newFaulty()
			return &watcher{s, func(ctx context.Context, name string, _ tokencache.Version) (func() error, error) {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				return s.Lock(ctx, name)
			}}
		}},
		"lock at a version does not lock": {"lock at a version", func() tokencache.Store {
			return &watcher{newFaulty(), func(context.Context, string, tokencache.Version) (func() error, error) {
				return func() error { return nil }, nil
			}}
		}},
	}
}

// The suite is worth what it catches.
func TestSuiteCatchesBrokenStores(t *testing.T) {
	t.Parallel()
	caughtBy := map[string]string{}
	for name, broken := range brokenStores() {
		caughtBy[name] = broken.caughtBy
	}
	for name := range brokenBeginners() {
		caughtBy[name] = "begin"
	}
	for name, broken := range brokenShared {
		caughtBy[name] = broken.caughtBy
	}
	for name, check := range caughtBy {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := runBroken(t, name, check)
			if err == nil {
				t.Fatalf("%q did not notice a store that is broken: %s", check, name)
			}
			want := "--- FAIL: TestBroken/" + strings.ReplaceAll(check, " ", "_")
			if !strings.Contains(out, want) || strings.Contains(out, "panic:") {
				t.Errorf("failed otherwise than by %q:\n%s", want, out)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		if out, err := runBroken(t, "", "context done"); err != nil {
			t.Errorf("a store that is not broken fails: %s", out)
		}
	})
}

// runBroken runs one check against one broken store, in another process.
func runBroken(t *testing.T, name, check string) (out string, err error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBroken$/^"+strings.ReplaceAll(check, " ", "_")+"$", "-test.v")
	cmd.Env = append(os.Environ(), brokenEnv+"="+name)
	b, err := cmd.CombinedOutput()
	if !strings.Contains(string(b), "=== RUN   TestBroken/") {
		t.Fatalf("no check ran: %s", b)
	}
	return string(b), err
}

// TestBroken fails, in a process of its own.
func TestBroken(t *testing.T) {
	name, ok := os.LookupEnv(brokenEnv)
	if !ok {
		return // TestSuiteCatchesBrokenStores runs it
	}
	if _, ok := brokenShared[name]; ok {
		storetest.RunShared(t, func(t *testing.T) string { return name + "|" + t.TempDir() }, openShared)
		return
	}
	storetest.Run(t, func(*testing.T) tokencache.Store {
		if name == "" {
			return newFaulty()
		}
		if b, ok := brokenBeginners()[name]; ok {
			return b.open()
		}
		return brokenStores()[name].open()
	}, storetest.Increments(2000))
}

// faulty is a Memory some of whose methods are replaced.
type faulty struct {
	*tokencache.Memory
	load func(ctx context.Context, name string) ([]byte, tokencache.Version, error)
	save func(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error)
	del  func(ctx context.Context, name string, old tokencache.Version) error
	lock func(ctx context.Context, name string) (func() error, error)
}

func newFaulty() *faulty {
	m := new(tokencache.Memory)
	return &faulty{m, m.Load, m.Save, m.Delete, m.Lock}
}

func (s *faulty) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	return s.load(ctx, name)
}

func (s *faulty) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	return s.save(ctx, name, data, old)
}

func (s *faulty) Delete(ctx context.Context, name string, old tokencache.Version) error {
	return s.del(ctx, name, old)
}

func (s *faulty) Lock(ctx context.Context, name string) (func() error, error) {
	return s.lock(ctx, name)
}

// overwrite is Save whatever the version.
func (s *faulty) overwrite(ctx context.Context, name string, data []byte, _ tokencache.Version) (tokencache.Version, error) {
	for {
		_, v, _ := s.Memory.Load(ctx, name)
		saved, err := s.Memory.Save(ctx, name, data, v)
		if !errors.Is(err, tokencache.ErrConflict) {
			return saved, err
		}
	}
}

// renaming mixes up names.
type renaming struct {
	*faulty
	rename func(string) string
}

func (s *renaming) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	return s.Memory.Load(ctx, s.rename(name))
}

func (s *renaming) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	return s.Memory.Save(ctx, s.rename(name), data, old)
}

// lister keeps its locks as entries.
type lister struct{ *faulty }

func (s *lister) Lock(ctx context.Context, name string) (func() error, error) {
	s.Memory.Save(ctx, "lock of "+name, nil, "")
	return s.Memory.Lock(ctx, name)
}

func (s *lister) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return s.Memory.List(ctx, prefix)
}

type wholeLister struct{ *faulty }

func (s *wholeLister) List(ctx context.Context, _ string) iter.Seq2[string, error] {
	return s.Memory.List(ctx, "")
}

type idleLister struct {
	*faulty
	listIdle func(ctx context.Context, before time.Time) iter.Seq2[string, error]
}

func (s *idleLister) ListIdle(ctx context.Context, before time.Time) iter.Seq2[string, error] {
	return s.listIdle(ctx, before)
}

type preflighter struct {
	*faulty
	check func(s tokencache.Store, ctx context.Context, name string) error
}

func (s *preflighter) Preflight(ctx context.Context, name string, size int) error {
	if err := s.check(s.Memory, ctx, name); err != nil {
		return fmt.Errorf("preflight of %d bytes: %w", size, err)
	}
	return nil
}

type watcher struct {
	*faulty
	lockAt func(ctx context.Context, name string, v tokencache.Version) (func() error, error)
}

func (s *watcher) LockAt(ctx context.Context, name string, v tokencache.Version) (func() error, error) {
	return s.lockAt(ctx, name, v)
}
