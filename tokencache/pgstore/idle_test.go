package pgstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

// olderTable returns a table as versions before ListIdle have made it.
func olderTable(t *testing.T, server *realparts.PostgreSQL) (arg string, sql func(text string)) {
	arg = newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	sql = func(text string) { query(t, server, strings.ReplaceAll(text, "{t}", table)) }
	sql(`ALTER TABLE {t} DROP COLUMN saved_span`)
	return arg, sql
}

func listIdle(t *testing.T, s *pgstore.Store, age time.Duration) (names []string) {
	t.Helper()
	for name, err := range s.ListIdle(t.Context(), time.Now().Add(-age)) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func wantIdle(t *testing.T, what string, s *pgstore.Store, age time.Duration, want ...string) {
	t.Helper()
	if got := listIdle(t, s, age); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("%s: idle are %q, want %q", what, got, want)
	}
}

// indexed reports whether Check is content with the index, having complained about nothing else
// that has to do with it.
func indexed(t *testing.T, s *pgstore.Store) bool {
	t.Helper()
	err := s.Check(t.Context())
	return err == nil || !strings.Contains(err.Error(), "idle")
}

// Many pages give every entry once, the longest idle first, with the index and without.
func idlePages(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	s := mustOpen(t, arg)
	// Every entry is an hour older than the one before it; some are of earlier versions, some
	// were saved by a server whose clock was wrong, a thousand of them in the same moment.
	query(t, server, strings.ReplaceAll(`INSERT INTO {t} (name, version, saved, saved_span, data)
		SELECT convert_to(n, 'UTF8'), 1, t, CASE WHEN i % 5 = 0 THEN 0 ELSE floor(extract(epoch FROM t) / 21600) END, 'x' FROM (
			SELECT i, format('%s', i) n, now() - i * interval '1 hour' t FROM generate_series(1, 3500) i
			UNION ALL SELECT 1, format('future %s', i), now() + interval '10 days' FROM generate_series(1, 1100) i
			UNION ALL SELECT 1, 'soon', now() + interval '1 minute') rows`, "{t}", table))
	for _, index := range []bool{true, false} {
		if !index {
			query(t, server, strings.ReplaceAll(`DROP INDEX {t}_saved`, "{t}", table))
		}
		for _, test := range []struct {
			age  time.Duration
			want int
		}{{0, 4600}, {-24 * time.Hour, 4601}, {100*time.Hour - time.Minute, 4501}, {3499*time.Hour + time.Minute, 1101}, {4000 * time.Hour, 1100}, {-24 * 365 * time.Hour, 4601}} {
			names := listIdle(t, s, test.age)
			if distinct := len(slices.Compact(slices.Sorted(slices.Values(names)))); len(names) != test.want || distinct != test.want {
				t.Errorf("index: %t, not saved since %v: %d names, %d different ones, want %d", index, test.age, len(names), distinct, test.want)
			}
			var ages []int // in spans, of those of this version
			for _, name := range names {
				var hours int
				if n, _ := fmt.Sscan(name, &hours); n == 1 && hours%5 != 0 {
					ages = append(ages, hours/6)
				}
			}
			for i := range ages[min(1, len(ages)):] {
				if index && ages[i+1] > ages[i]+1 {
					t.Fatalf("not saved since %v: %d spans ago comes after %d", test.age, ages[i+1], ages[i])
				}
			}
		}
	}
	if indexed(t, s) {
		t.Error("Check does not miss the index")
	}
}

// Two saves for each refresh must not touch the indexes: only the first of six hours does.
func rotationsStayHOT(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	s, err := pgstore.Open(pgstore.Config{DSN: server.URL(), Table: table})
	if err != nil {
		t.Fatal(err)
	}
	const users, refreshes = 10, 24
	for user := range users {
		storecheck.Save(t, s, fmt.Sprint(user), "x", "")
	}
	query(t, server, `UPDATE `+table+` SET saved = saved - interval '6 hours', saved_span = saved_span - 1`)
	for user := range users {
		_, v, err := s.Load(t.Context(), fmt.Sprint(user))
		for range 2 * refreshes {
			if err == nil {
				v, err = s.Save(t.Context(), fmt.Sprint(user), []byte("y"), v)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Close() // The server counts what a connection did when it ends, or after a while.
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	all, hot := 0, 0
	for range 150 {
		if err := conn.QueryRow(t.Context(), `SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = $1`, table).Scan(&all, &hot); err != nil {
			t.Fatal(err)
		}
		if all >= users*(1+2*refreshes) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%d updates, %d of them HOT", all, hot)
	if saves := users * 2 * refreshes; all != saves+users || hot < saves*9/10 || hot > saves-users {
		t.Errorf("%d updates, %d of them HOT; want %d, and all but one for each user, or a few more where a page was full", all, hot, saves+users)
	}
}

// A service that is deployed over tables of an earlier version, by a role that may not change
// them, works, and finds what is idle. What earlier versions save while both run is found too.
func idleBesideOlderVersions(t *testing.T, server *realparts.PostgreSQL) {
	arg, sql := olderTable(t, server)
	sql(`CREATE ROLE tenant LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON {t}, {t}_locks, {t}_gone TO tenant`)
	s := mustOpen(t, strings.Replace(arg, "postgres@", "tenant@", 1))
	if err := s.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate by a role that may not: %v", err)
	}
	if indexed(t, s) {
		t.Error("Check does not miss the index")
	}
	v := storecheck.Save(t, s, "a", "x", "")
	storecheck.Save(t, s, "a", "y", v)
	storecheck.Save(t, s, "b", "x", "")
	sql(`UPDATE {t} SET saved = saved - interval '3 days' WHERE name = 'a'`)
	wantIdle(t, "without the column", s, 48*time.Hour, "a")

	owner := mustOpen(t, arg)
	if err := owner.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !indexed(t, s) {
		t.Error("Check misses the index")
	}
	wantIdle(t, "with the column", s, 48*time.Hour, "a")
	// The statements of earlier versions.
	sql(`INSERT INTO {t} (name, data, version, saved) SELECT 'c', 'x', 1, now() WHERE true
		ON CONFLICT (name) DO UPDATE SET saved = excluded.saved WHERE {t}.version = excluded.version`)
	storecheck.Save(t, owner, "d", "x", "")
	sql(`UPDATE {t} SET data = 'y', version = 2, saved = now() WHERE name IN ('a', 'd')`)
	wantIdle(t, "what earlier versions have just saved", s, time.Hour)
	wantIdle(t, "what earlier versions have just saved", s, -time.Hour, "a", "b", "c", "d")
	sql(`UPDATE {t} SET saved = now() - interval '3 days' WHERE name IN ('a', 'c', 'd')`)
	wantIdle(t, "what earlier versions saved long ago, or without the span", s, 48*time.Hour, "a", "c")
	wantIdle(t, "all", s, -24*time.Hour, "a", "b", "c", "d")

	// A process that has used the column goes on when it is gone, and the other way round.
	sql(`ALTER TABLE {t} DROP COLUMN saved_span`)
	_, v, err := owner.Load(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	v = storecheck.Save(t, owner, "b", "y", v)
	storecheck.Save(t, owner, "e", "y", "")
	if err := owner.Migrate(t.Context()); err != nil || !indexed(t, owner) {
		t.Errorf("Migrate: %v, indexed: %t", err, indexed(t, owner))
	}
	storecheck.Save(t, owner, "b", "z", v)
	sql(`DO $$ BEGIN ASSERT (SELECT saved_span > 50000 FROM {t} WHERE name = 'b'), 'saves without the span after Migrate'; END $$`)
}

// All replicas of a new version find a table of an earlier one in use, and one of them builds the
// index, of which half may be there from an earlier attempt.
func migrateInUse(t *testing.T, server *realparts.PostgreSQL) {
	arg, sql := olderTable(t, server)
	sql(`INSERT INTO {t} (name, version, saved, data) SELECT decode(md5(i::text), 'hex'), 1, now() - interval '3 days', 'x' FROM generate_series(1, 20000) i`)
	worker := mustOpen(t, arg)
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		for ctx.Err() == nil {
			if err := rotate(t.Context(), worker, "a"); err != nil {
				t.Error(err)
			}
		}
	})
	for _, when := range []string{"of an earlier version", "with half an index"} {
		var migrating sync.WaitGroup
		for range 8 {
			s := mustOpen(t, arg)
			migrating.Go(func() {
				if err := s.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		migrating.Wait()
		if !indexed(t, worker) {
			t.Errorf("a table %s is not migrated: %v", when, worker.Check(t.Context()))
		}
		if n := len(listIdle(t, worker, time.Hour)); n != 20000 {
			t.Errorf("a table %s lists %d idle entries", when, n)
		}
		sql(`UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{t}_saved'::regclass`)
	}
	stop()
	working.Wait()
}

// A backup that runs for hours keeps neither the program from starting, nor others from working;
// what cannot be done meanwhile is done by a later start.
func migrateDuringBackup(t *testing.T, server *realparts.PostgreSQL) {
	query(t, server, `CREATE DATABASE nightly`) // The other tests would wait for the backup too.
	dsn := strings.Replace(server.URL(), "/postgres?", "/nightly?", 1)
	arg := newTable(t, dsn)
	_, table, _ := strings.Cut(arg, "|")
	s := mustOpen(t, arg)
	storecheck.Save(t, s, "a", "x", "")
	backup, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer backup.Close(context.Background())
	sql := func(text string) {
		t.Helper()
		if _, err := backup.Exec(t.Context(), strings.ReplaceAll(text, "{t}", table), pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	step := func(what string) {
		t.Helper()
		sql(`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM {t}`)
		start := time.Now()
		migrated := make(chan error, 1)
		go func() { migrated <- mustOpen(t, arg).Migrate(t.Context()) }()
		slowest := time.Duration(0)
		for waiting := true; waiting; {
			select {
			case err := <-migrated:
				if err != nil {
					t.Errorf("%s: Migrate: %v", what, err)
				}
				waiting = false
			default:
			}
			before := time.Now()
			if err := rotate(t.Context(), s, "a"); err != nil {
				t.Error(err)
			}
			slowest = max(slowest, time.Since(before))
		}
		t.Logf("%s: Migrate took %v, the slowest refresh meanwhile %v", what, time.Since(start), slowest)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s: Migrate took %v", what, took)
		}
		if indexed(t, s) {
			t.Errorf("%s: Check does not miss the index", what)
		}
		wantIdle(t, what, s, -time.Hour, "a")
		sql(`COMMIT`)
	}
	sql(`ALTER TABLE {t} DROP COLUMN saved_span`)
	step("the backup reads the table")
	sql(`ALTER TABLE {t} ADD COLUMN saved_span integer NOT NULL DEFAULT 0`)
	step("the index waits for the backup")
	if err := mustOpen(t, arg).Migrate(t.Context()); err != nil || !indexed(t, s) {
		t.Errorf("Migrate after the backup: %v, indexed: %t", err, indexed(t, s))
	}
}
