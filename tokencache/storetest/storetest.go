// Package storetest checks that a tokencache.Store keeps its contract.
//
// Run checks a store within one process. RunShared also checks a store that several processes
// share: that they exclude each other, that the death of a process releases its lock, and that
// nobody sees a torn entry when a writer is killed. For that it starts the test binary again,
// so the package's TestMain has to call Child first:
//
//	func TestMain(m *testing.M) {
//		storetest.Child(open)
//		os.Exit(m.Run())
//	}
//
//	func TestStore(t *testing.T) {
//		storetest.RunShared(t, func(t *testing.T) string { return t.TempDir() }, open)
//	}
//
//	func open(dir string) (tokencache.Store, error) { return mystore.Open(dir) }
//
// Two promises that no test can check are left to the author of the store: that a saved entry
// survives a power failure, and that a lock does not end after minutes or hours while its
// holder lives; the suite holds one for a second.
package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// An Option changes what Run and RunShared do.
type Option func(*config)

// Increments sets how many concurrent compare-and-swap increments are made, for
// stores that are slow by nature. The default is 10 000.
func Increments(n int) Option { return func(c *config) { c.increments = n } }

type config struct {
	increments int
}

func newConfig(opts []Option) config {
	c := config{increments: 10_000}
	for _, o := range opts {
		o(&c)
	}
	return c
}

// patience bounds what should take no time. Only with a broken store does it run out.
const patience = 30 * time.Second

// Run checks the stores that open returns. They must be new and empty; each is used by one
// subtest.
func Run(t *testing.T, open func(t *testing.T) tokencache.Store, opts ...Option) {
	c := newConfig(opts)
	for _, check := range []struct {
		name string
		f    func(t *testing.T, s tokencache.Store)
	}{
		{"absent is not empty", absentIsNotEmpty},
		{"save wants the version", saveWantsVersion},
		{"delete wants the version", deleteWantsVersion},
		{"delete leaves a trace", deleteLeavesTrace},
		{"any bytes", anyBytes},
		{"any name", anyName},
		{"data belongs to the caller", dataBelongsToCaller},
		{"context done", contextDone},
		{"concurrent increments", func(t *testing.T, s tokencache.Store) { concurrentIncrements(t, s, c.increments) }},
		{"lock excludes", lockExcludes},
		{"lock honours the context", lockHonoursContext},
		{"lock outlasts time", lockOutlastsTime},
		{"lock is apart from entries", lockIsApart},
		{"unlock twice", unlockTwice},
		{"lock at a version", func(t *testing.T, s tokencache.Store) { lockAtVersion(t, s, s) }},
		{"begin", func(t *testing.T, s tokencache.Store) { begin(t, s, s) }},
		{"begin excludes", beginExcludes},
		{"list", list},
		{"list idle", listIdle},
		{"preflight", preflight},
	} {
		t.Run(check.name, func(t *testing.T) {
			t.Parallel()
			check.f(t, open(t))
		})
	}
}

func mustLoad(t *testing.T, s tokencache.Store, name string) ([]byte, tokencache.Version) {
	t.Helper()
	data, v, err := s.Load(t.Context(), name)
	if err != nil {
		t.Fatalf("Load(%q): %v", name, err)
	}
	if v == "" {
		t.Fatalf(`Load(%q) returned the version "", which means absent`, name)
	}
	return data, v
}

func mustSave(t *testing.T, s tokencache.Store, name string, data []byte, old tokencache.Version) tokencache.Version {
	t.Helper()
	v, err := s.Save(t.Context(), name, data, old)
	if err != nil {
		t.Fatalf("Save(%q, %d bytes): %v", name, len(data), err)
	}
	if v == "" {
		t.Fatalf(`Save(%q) returned the version "", which means absent`, name)
	}
	return v
}

func mustLock(t *testing.T, s tokencache.Store, name string) (unlock func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	unlock, err := s.Lock(ctx, name)
	if err != nil {
		t.Fatalf("Lock(%q): %v", name, err)
	}
	return unlock
}

func mustUnlock(t *testing.T, unlock func() error) {
	t.Helper()
	if err := unlock(); err != nil {
		t.Fatalf("unlock: %v", err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want one that wraps %q", what, err, want)
	}
}

// wantLocked checks that nobody can take the lock on name for a while.
func wantLocked(t *testing.T, s tokencache.Store, name string, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	unlock, err := s.Lock(ctx, name)
	if err == nil {
		unlock()
		t.Fatalf("Lock(%q) succeeded while somebody else held it", name)
	}
	wantErr(t, "Lock while somebody else holds it", err, context.DeadlineExceeded)
}
