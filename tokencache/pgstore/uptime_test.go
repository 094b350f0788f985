package pgstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
)

// forgetful is a server that loses in a crash what nobody waits for.
const forgetful = "wal_writer_delay=10s"

// The primary crashes in the middle of a refresh, and the standby that takes its place has neither
// the lock nor the journal. Whoever had the lock has it there, even if the standby knows of an
// earlier holder.
func TestFailoverKeepsLocks(t *testing.T) {
	t.Parallel()
	a := realparts.StartPostgreSQL(t)
	b := a.StartStandby(t, "b")
	arg := newTable(t, a.URLOfPrimary(b, "pool_max_conns=4"))
	holder, earlier, dead := mustOpen(t, arg), mustOpen(t, arg), mustOpen(t, arg)
	v := storecheck.Save(t, holder, "a", "old token", "")
	unlockEarlier, unlockDead := storecheck.Lock(t, earlier, "b"), storecheck.Lock(t, dead, "c")
	standAlone(t, a, b)
	begun, end, unlock, err := holder.Begin(t.Context(), "a", []byte("journal"), v, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, unlock := range []func() error{unlockEarlier, unlockDead} {
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
	}
	dead.Close()
	unlocks := []func() error{unlock, storecheck.Lock(t, holder, "b"), storecheck.Lock(t, holder, "c")}
	waiter := storecheck.Watch(t, mustOpen(t, arg), "a")
	a.Crash()
	b.Promote()
	after := mustOpen(t, arg)
	others := []*storecheck.Watcher{storecheck.Watch(t, after, "b"), storecheck.Watch(t, after, "c")}
	waiter.NothingFor(t, 2*outage)
	for _, other := range others {
		other.NothingFor(t, 0)
	}
	if data, now, err := holder.Load(t.Context(), "a"); string(data) != "old token" || now != v {
		t.Fatalf("nothing was lost: %q, %v", data, err)
	}
	if _, err := end(t.Context(), []byte("new token"), begun); !errors.Is(err, tokencache.ErrConflict) {
		t.Errorf("end without a journal: %v", err)
	}
	storecheck.Save(t, holder, "a", "new token", v)
	for _, unlock := range unlocks {
		if err := unlock(); err != nil {
			t.Error(err)
		}
	}
	for _, other := range append(others, waiter) {
		other.Turn(t)
	}
}

// standAlone makes the standby know all that the primary knows now, and nothing from then on.
func standAlone(t *testing.T, primary, standby *realparts.PostgreSQL) {
	t.Helper()
	query(t, primary, `SELECT pg_switch_wal()`) // writes what nobody waits for
	awaitTrue(t, standby, `SELECT pg_last_wal_replay_lsn() >= '`+value[string](t, primary, `SELECT pg_current_wal_lsn()::text`)+`'`)
	query(t, standby, `ALTER SYSTEM SET primary_conninfo = ''`)
	query(t, standby, `SELECT pg_reload_conf()`)
	awaitTrue(t, standby, `SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)`)
}

// After a crash, and whenever the row is missing that tells of it, a process that has just started
// waits for those that may have had a lock.
func TestWaitsAfterBreaks(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t, forgetful)
	arg := newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	known := mustOpen(t, arg)
	for what, happens := range map[string]func(){
		"crash":      func() { server.Crash(); server.Start() },
		"restart":    func() { server.Stop(); server.Start() },
		"truncation": func() { query(t, server, `TRUNCATE `+table+`_uptime`) },
	} {
		storecheck.Lock(t, known, what)()
		happens()
		begun := time.Now()
		unlock := storecheck.Lock(t, mustOpen(t, arg), what)
		if waited := time.Since(begun); waited < 2500*time.Millisecond { // The other one may have been back sooner.
			t.Errorf("%s: another process had the lock after %v", what, waited)
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
		storecheck.Begin(t, known, what)(false)
	}
}

// Somebody migrates what an earlier version has made, while processes are in the middle of a
// refresh.
func TestMigrateAddsUptime(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t, forgetful)
	arg := newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	query(t, server, `DROP TABLE `+table+`_uptime`)
	s := mustOpen(t, arg)
	end := storecheck.Begin(t, s, "begun before")
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), table+"_uptime") {
		t.Errorf("Check: %v", err)
	}
	if err := mustOpen(t, arg).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	time.Sleep(2 * time.Second) // The session has noticed.
	after := storecheck.Begin(t, s, "begun afterwards")
	first, second := storecheck.Watch(t, mustOpen(t, arg), "begun before"), storecheck.Watch(t, mustOpen(t, arg), "begun afterwards")
	server.Crash()
	server.Start()
	first.NothingFor(t, outage)
	second.NothingFor(t, 0)
	end(false)
	after(true)
	first.Turn(t)
	second.Turn(t)
}

// Where nobody has migrated since there is that row, or the role may not use it, a crash takes no
// journal. The table may also vanish or appear while processes run.
func TestDurableJournal(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t, forgetful)
	query(t, server, `CREATE ROLE old_grants LOGIN; ALTER ROLE old_grants SET synchronous_commit = local`)
	for what, sql := range map[string]string{
		"no table":             `DROP TABLE {t}_uptime`,
		"no right":             `REVOKE ALL ON {t}_uptime FROM old_grants`,
		"row-level security":   `ALTER TABLE {t}_uptime ENABLE ROW LEVEL SECURITY`,
		"synchronous replicas": `ALTER SYSTEM SET synchronous_standby_names = 'none'`,
	} {
		arg := newTable(t, server.URL())
		_, table, _ := strings.Cut(arg, "|")
		query(t, server, strings.ReplaceAll(`GRANT ALL ON {t}, {t}_locks, {t}_gone, {t}_uptime TO old_grants`, "{t}", table))
		arg = strings.Replace(arg, "postgres@", "old_grants@", 1)
		running := mustOpen(t, arg)
		storecheck.Lock(t, running, "a")()
		for sql := range strings.SplitSeq(strings.ReplaceAll(sql, "{t}", table), ";") {
			query(t, server, sql)
		}
		query(t, server, `SELECT pg_reload_conf()`)
		ends := []func(mayBeLost bool){storecheck.Begin(t, running, what), storecheck.Begin(t, mustOpen(t, arg), what+", new")}
		server.Crash()
		server.Start()
		for _, end := range ends {
			end(false)
		}
		query(t, server, `ALTER SYSTEM RESET ALL`)
		query(t, server, `SELECT pg_reload_conf()`)
	}
}
