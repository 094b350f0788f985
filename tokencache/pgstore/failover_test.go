package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

// In a planned switchover the old primary lives on, read-only, and with it all
// connections. They are left, and whoever holds a lock keeps it on the new primary.
func TestSwitchover(t *testing.T) {
	t.Parallel()
	a := realparts.StartPostgreSQL(t)
	b := a.StartStandby(t, "b")
	dsn := a.URLOfPrimary(b, "pool_max_conns=4")
	arg := newTable(t, dsn)
	holder, busy, idle, reader := mustOpen(t, arg), mustOpen(t, arg), mustOpen(t, arg), mustOpen(t, arg)
	for _, s := range []tokencache.Store{holder, busy, idle, reader} {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if err := rotate(t.Context(), s, fmt.Sprint("warm", i)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	unlock := storecheck.Lock(t, holder, "a")
	v := storecheck.Save(t, holder, "a", "journal", "")
	watcher := storecheck.Watch(t, busy, "a")

	query(t, a, `ALTER SYSTEM SET default_transaction_read_only = on`)
	query(t, a, `SELECT pg_reload_conf()`)
	query(t, b, `SELECT pg_promote()`)
	begun := time.Now()
	for {
		err := idle.Preflight(t.Context(), "other", 1)
		if err == nil {
			err = rotate(t.Context(), idle, "other")
		}
		if err == nil {
			break
		}
		if time.Since(begun) > storecheck.Patience {
			t.Fatalf("the service does not come back: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	// The holder waits for the provider, and asks the database for nothing.
	watcher.NothingFor(t, outage+time.Second)
	storecheck.Save(t, holder, "a", "new token", v)
	if err := unlock(); err != nil {
		t.Error(err)
	}
	watcher.Turn(t)
	// Who has written nothing all the time does not read what was saved before.
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if data, _, err := reader.Load(t.Context(), "a"); string(data) != "new token" {
				t.Errorf("loaded %q, %v", data, err)
			}
		})
	}
	all.Wait()
}

// After a failover to a standby that lagged, a lock is there that its holder has released. It lives,
// so nobody else may take the lock, and it has no reason to: it has to release it once more.
func TestALockReturns(t *testing.T) {
	t.Parallel()
	a := realparts.StartPostgreSQL(t)
	b := a.StartStandby(t, "b")
	arg := newTable(t, a.URLOfPrimary(b, "pool_max_conns=4"))
	holder, other := mustOpen(t, arg), mustOpen(t, arg)
	unlock, unlockKept := storecheck.Lock(t, holder, "a"), storecheck.Lock(t, holder, "kept")
	v := storecheck.Save(t, holder, "a", "replicated", "")
	standAlone(t, a, b)
	storecheck.Save(t, holder, "a", "lost", v)
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	a.Crash()
	b.Promote()
	if data, _, err := other.Load(t.Context(), "a"); string(data) != "replicated" {
		t.Fatalf("nothing was lost: %q, %v", data, err)
	}
	if err := storecheck.Lock(t, other, "a")(); err != nil {
		t.Error(err)
	}
	watcher := storecheck.Watch(t, other, "kept")
	watcher.NothingFor(t, outage)
	if err := unlockKept(); err != nil {
		t.Error(err)
	}
	watcher.Turn(t)
}

// Connections of the pool may lead to a standby while the one that shows that the process is alive
// has found the primary.
func TestPoolOnAStandby(t *testing.T) {
	t.Parallel()
	a := realparts.StartPostgreSQL(t)
	b := a.StartStandby(t, "b")
	arg := newTable(t, a.URL())
	standAlone(t, a, b)
	_, table, _ := strings.Cut(arg, "|")
	s, err := pgstore.Open(pgstore.Config{DSN: b.URL(), SessionDSN: a.URL(), Table: table})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, errLock := s.Lock(t.Context(), "a")
	_, _, _, errBegin := s.Begin(t.Context(), "a", nil, "1", "")
	for op, err := range map[string]error{"Lock": errLock, "Begin": errBegin} {
		if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "target_session_attrs=read-write") {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// The machine of the primary loses power, or the network to it breaks: nobody is told. Processes
// that were connected, or start afterwards, find the standby, which has been promoted.
func TestSilentPrimary(t *testing.T) {
	t.Parallel()
	a := realparts.StartPostgreSQL(t)
	b := a.StartStandby(t, "b")
	n := realparts.NewNetwork(t)
	toA, toB := n.StartProxy(a.Port), n.StartProxy(b.Port)
	arg := newTable(t, fmt.Sprintf("postgres://postgres@%s:%d,%[1]s:%[3]d/postgres?sslmode=disable&pool_max_conns=4&target_session_attrs=read-write", n.Far, toA.Port, toB.Port))
	connected := mustOpen(t, arg)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if err := rotate(t.Context(), connected, fmt.Sprint("warm", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := n.Cut(toA.Port); err != nil {
		t.Fatal(err)
	}
	b.Promote()
	afterwards := mustOpen(t, arg)
	t.Cleanup(func() { n.Mend(toA.Port) }) // before the stores take their leave of the server
	for what, s := range map[string]*pgstore.Store{"connected": connected, "started afterwards": afterwards} {
		all.Go(func() {
			begun := time.Now()
			for {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				err := rotate(ctx, s, what)
				cancel()
				if err == nil {
					t.Logf("%s: works after %v", what, time.Since(begun).Round(10*time.Millisecond))
					return
				}
				if time.Since(begun) > storecheck.Patience {
					t.Errorf("%s: %v", what, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// With a synchronous standby, nothing counts as saved that only the primary has, whoever
// ends the wait for the standby.
func TestSynchronousStandby(t *testing.T) {
	t.Parallel()
	a := realparts.StartPostgreSQL(t, "synchronous_standby_names=b")
	b := a.StartStandby(t, "b")
	arg := newTable(t, a.URL("application_name=service", "pool_max_conns=4"))
	s := mustOpen(t, arg)
	good := storecheck.Save(t, s, "good", "token", "")
	storecheck.Save(t, s, "a", "old", "")
	b.Stop()
	waiting := func() (n int) {
		conn, err := pgx.Connect(t.Context(), a.URL())
		if err == nil {
			defer conn.Close(context.Background())
			err = conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'service' AND wait_event = 'SyncRep'`).Scan(&n)
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	until := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(storecheck.Patience); waiting() < n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d saves wait for the standby, want %d", waiting(), n)
			}
		}
	}

	for what, test := range map[string]struct {
		do, says string
		goesOn   bool // until the caller gives up
	}{
		"cancelled": {`SELECT pg_cancel_backend(pid)`, "synchronous replica", false},
		"ended":     {`SELECT pg_terminate_backend(pid)`, context.Canceled.Error(), true},
	} {
		_, v, err := s.Load(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		saved := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := s.Save(ctx, "a", []byte(what), v)
			saved <- err
		}()
		until(1)
		query(t, a, test.do+` FROM pg_stat_activity WHERE application_name = 'service' AND wait_event = 'SyncRep'`)
		if test.goesOn {
			time.AfterFunc(2*time.Second, cancel) // not counting how long a busy machine took until here
		}
		if err := <-saved; err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: Save: %v, want an error that says %q", what, err, test.says)
		}
		cancel()
	}

	// Writes hang, and those who only read are served.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for i := range 10 {
		go func() {
			_, err := s.Save(ctx, fmt.Sprint(i), nil, "")
			ended <- err
		}()
	}
	until(3)
	for range 5 {
		brief, cancel := context.WithTimeout(t.Context(), storecheck.Patience)
		if data, now, err := s.Load(brief, "good"); string(data) != "token" || now != good {
			t.Errorf("Load while all writes hang: %q, %v", data, err)
		}
		cancel()
	}
	cancel()
	for range 10 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Save without the standby: %v", err)
		}
	}

	b.Start()
	_, v, err := s.Load(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	storecheck.Save(t, s, "a", "new", v)
}
