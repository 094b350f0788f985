package pgstore_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

var update = flag.Bool("update", false, "write testdata/shared.txt anew")

// What is in the database is shared by all versions of the store that run at the same
// time, as they do while a service is deployed. A lock in another place is no lock, and
// both spend the refresh token. So this golden file never changes; what is added must be
// ignored by older versions.
func TestSharedNames(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t)
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	// Whoever migrates holds this number meanwhile.
	if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock(8319381585614173288)`); err != nil {
		t.Fatal(err)
	}
	s, err := pgstore.Open(pgstore.Config{DSN: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	migrated := make(chan error)
	go func() { migrated <- s.Migrate(t.Context()) }()
	query(t, server, `DO $$ BEGIN FOR i IN 1..500 LOOP
		EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted); PERFORM pg_sleep(0.02); END LOOP;
		ASSERT to_regclass('stayauth_entries') IS NULL, 'migrated while another process did'; END $$`)
	if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_unlock(8319381585614173288)`); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Fatal(err)
	}
	storecheck.Save(t, s, "a", "x", "")
	defer storecheck.Lock(t, s, "a")()
	if err := s.Delete(t.Context(), "gone", storecheck.Save(t, s, "gone", "x", "")); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `
		SELECT format('%s.%s %s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN i.indkey IS NOT NULL THEN ' primary key' END)
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
			LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey)
			WHERE c.relname LIKE 'stayauth%' AND c.relkind = 'r'
		UNION ALL SELECT format('lock of %L: its owner holds the advisory lock on that number: %s', convert_from(name, 'UTF8'),
			EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND objsubid = 1
				AND (classid::bigint << 32) | objid::bigint = owner)) FROM stayauth_entries_locks
		UNION ALL SELECT format('trace of %L', convert_from(name, 'UTF8')) FROM stayauth_entries_gone
		UNION ALL SELECT format('entry %L is %L', convert_from(name, 'UTF8'), convert_from(data, 'UTF8')) FROM stayauth_entries
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(lines, "\n") + "\n"
	golden := filepath.Join("testdata", "shared.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("in the database there is\n%swant\n%s", got, want)
	}
}
