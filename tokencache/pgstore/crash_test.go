package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

// outage is longer than it takes others to give up a process that seems to be dead.
const outage = 4 * time.Second

// Whatever happens to its connections, a process that lives and comes back soon keeps
// its locks: it may be in the middle of a refresh.
func TestLockOutlastsConnections(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t, "restart_after_crash=on", forgetful)
	proxy := realparts.StartProxy(t, server.Port)
	direct := newTable(t, server.URL())
	holder, waiter := mustOpen(t, through(proxy, direct)), mustOpen(t, direct)
	for what, happens := range map[string]func(){
		"connections are cut": proxy.Cut,
		"cut again and again": func() {
			for range 20 {
				proxy.Cut()
				time.Sleep(20 * time.Millisecond)
			}
		},
		"server restarts": func() { server.Stop(); server.Start() },
		"server crashes":  func() { server.Crash(); server.Start() },
	} {
		t.Run(what, func(t *testing.T) {
			unlock := storecheck.Lock(t, holder, what)
			watcher := storecheck.Watch(t, waiter, what)
			v := storecheck.Save(t, holder, what, "journal", "")
			atOnce := what + ", at once"
			end := storecheck.Begin(t, holder, atOnce)
			other := storecheck.Watch(t, waiter, atOnce)
			happens()
			watcher.NothingFor(t, outage)
			other.NothingFor(t, 0)
			end(what == "server crashes")
			other.Turn(t)
			storecheck.Save(t, holder, what, "new token", v)
			if err := unlock(); err != nil {
				t.Fatal(err)
			}
			watcher.Turn(t)
		})
	}
}

// Who is cut off for long loses the lock, and notices; the others get on.
func lockOfOneCutOff(t *testing.T, server *realparts.PostgreSQL) {
	proxy := realparts.StartProxy(t, server.Port)
	direct := newTable(t, server.URL())
	lost, other := mustOpen(t, through(proxy, direct)), mustOpen(t, direct)
	unlock := storecheck.Lock(t, lost, "a")
	v := storecheck.Save(t, lost, "a", "journal", "")
	proxy.Down()
	unlockOther := storecheck.Lock(t, other, "a")
	storecheck.Save(t, other, "a", "theirs", v)
	proxy.Up()
	if _, err := lost.Save(t.Context(), "a", []byte("late"), v); !errors.Is(err, tokencache.ErrConflict) {
		t.Errorf("the late save: %v, want ErrConflict", err)
	}
	if err := unlock(); err == nil || !strings.Contains(err.Error(), "the lock was lost") {
		t.Errorf("unlock of a lock that was lost: %v", err)
	}
	if err := unlockOther(); err != nil {
		t.Error(err)
	}
	if data, _, err := lost.Load(t.Context(), "a"); string(data) != "theirs" {
		t.Errorf("loaded %q, %v", data, err)
	}
}

// Whoever is cut off takes nobody for dead because of that: the trouble, a restart of the
// server for instance, may be everybody's.
func waiterCutOff(t *testing.T, server *realparts.PostgreSQL) {
	holders, waiters := realparts.StartProxy(t, server.Port), realparts.StartProxy(t, server.Port)
	arg := newTable(t, server.URL())
	dsn, table, _ := strings.Cut(arg, "|")
	session, _, _ := strings.Cut(through(waiters, arg), "|")
	waiter, err := pgstore.Open(pgstore.Config{DSN: dsn, Table: table, SessionDSN: session})
	if err != nil {
		t.Fatal(err)
	}
	defer waiter.Close()
	storecheck.Lock(t, mustOpen(t, through(holders, arg)), "a")
	holders.Down()
	got := make(chan struct{})
	go func() {
		defer close(got)
		for t.Context().Err() == nil {
			if _, err := waiter.Lock(t.Context(), "a"); err == nil {
				return
			} // A cut in the middle of connecting is an error.
		}
	}()
	longest, last := time.Duration(0), time.Now()
	for begun := last; time.Since(begun) < outage+time.Second; last = time.Now() {
		select {
		case <-got:
			if longest = max(longest, time.Since(last)); longest < outage/2 { // Else the machine was too slow to tell.
				t.Fatal("got the lock while being cut off again and again")
			}
			return
		case <-time.After(time.Second):
		}
		longest = max(longest, time.Since(last))
		waiters.Cut()
	}
	<-got
}

// An unlock that cannot reach the server is made up for.
func unlockDuringOutage(t *testing.T, server *realparts.PostgreSQL) {
	proxy := realparts.StartProxy(t, server.Port)
	direct := newTable(t, server.URL())
	holder, other := mustOpen(t, through(proxy, direct)), mustOpen(t, direct)
	for _, name := range []string{"a", "b"} {
		unlock := storecheck.Lock(t, holder, name)
		proxy.Down()
		if err := unlock(); !errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("unlock without a server: %v", err)
		}
		proxy.Up()
		if name == "a" { // In the same process the next may be faster than that.
			storecheck.Lock(t, holder, name)()
		}
		storecheck.Lock(t, other, name)()
	}
}

// A paused process keeps its lock. If its connections are ended, it loses the lock, and
// what it saves late is refused.
func pausedProcess(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL("application_name=paused"))
	other := mustOpen(t, strings.Replace(arg, "paused", "other", 1))
	storecheck.Save(t, other, "a", "old", "")
	holder := storecheck.StartHolder(t, arg)
	holder.Pause()

	ctx, cancel := context.WithTimeout(t.Context(), outage)
	defer cancel()
	if _, err := other.Lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the lock of a paused process: %v", err)
	}
	query(t, server, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'paused'`)
	unlock := storecheck.Lock(t, other, "a")
	_, v, err := other.Load(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	storecheck.Save(t, other, "a", "theirs", v)
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if said := holder.ResumeAndSave(); !strings.Contains(said, tokencache.ErrConflict.Error()) {
		t.Errorf("the late save said %q", said)
	}
	if data, _, err := other.Load(t.Context(), "a"); string(data) != "theirs" {
		t.Errorf("loaded %q, %v", data, err)
	}
}

// A Save that succeeds is on the disk, even if the server's default is that it need not.
func TestSaveIsDurable(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t, "synchronous_commit=off", forgetful)
	s := mustOpen(t, newTable(t, server.URL()))
	for round := range 5 {
		var want []string
		for i := range 10 {
			name := fmt.Sprintf("%d %d", round, i)
			storecheck.Lock(t, s, name)()
			storecheck.Save(t, s, name, name, "")
			want = append(want, name)
		}
		server.Crash()
		server.Start()
		for _, name := range want {
			if data, _, err := s.Load(t.Context(), name); err != nil || string(data) != name {
				t.Errorf("after the crash: %q, %v", data, err)
			}
		}
	}
}

// Locks take no connection while they are held or waited for.
func manyLocksOneConnection(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL("pool_max_conns=1"))
	a, b := mustOpen(t, arg), mustOpen(t, arg)
	const many = 50
	var unlocks []func() error
	for i := range many {
		unlocks = append(unlocks, storecheck.Lock(t, a, fmt.Sprint(i)))
	}
	turns := make(chan error, 2*many)
	for i := range 2 * many {
		go func() {
			unlock, err := []tokencache.Store{a, b}[i%2].Lock(t.Context(), fmt.Sprint(i/2))
			if err == nil {
				err = unlock()
			}
			turns <- err
		}()
	}
	for i := range many {
		storecheck.Save(t, a, fmt.Sprint(i), "x", "")
		if err := unlocks[i](); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 * many {
		if err := <-turns; err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever waits only reads: the holder, who wants to unlock, must not wait for them.
func waitersOnlyRead(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL())
	holder, waiter := mustOpen(t, arg), mustOpen(t, arg)
	storecheck.Lock(t, holder, "a")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := waiter.Lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(arg, "|")
	query(t, server, `DO $$ BEGIN ASSERT (SELECT xmax FROM `+table+`_locks) = 0, 'somebody has locked the row'; END $$`)
}
