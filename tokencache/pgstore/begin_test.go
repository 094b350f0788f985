package pgstore_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

// Whatever else a program does with its pool, such as to deallocate all that is prepared on a
// connection, nobody hears of it.
func deallocated(t *testing.T, server *realparts.PostgreSQL) {
	dsn, table, _ := strings.Cut(newTable(t, server.URL("pool_max_conns=1")), "|")
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s, err := pgstore.Open(pgstore.Config{Pool: pool, Table: table})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	deallocate := func() (prepared int) {
		t.Helper()
		err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_prepared_statements`, pgx.QueryExecModeExec).Scan(&prepared)
		if err == nil {
			_, err = pool.Exec(t.Context(), `DEALLOCATE ALL`, pgx.QueryExecModeSimpleProtocol)
		}
		if err != nil {
			t.Fatal(err)
		}
		return prepared
	}
	for _, name := range []string{"a", "b"} {
		end := storecheck.Begin(t, s, name)
		deallocate()
		end(false)
		unlock := storecheck.Lock(t, s, name)
		if n := deallocate(); n == 0 {
			t.Error("nothing was prepared")
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
		deallocate()
	}
}

// The table may be that of an earlier version: nobody has called Migrate since.
func beginBesideOlderVersions(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	s := mustOpen(t, arg)
	storecheck.Begin(t, s, "new table")(false)
	query(t, server, `ALTER TABLE `+table+` DROP COLUMN saved_span`)
	storecheck.Begin(t, s, "same process")(false)
	storecheck.Begin(t, mustOpen(t, arg), "another process")(false)
}
