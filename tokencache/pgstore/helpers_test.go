package pgstore_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

func TestMain(m *testing.M) { storecheck.Main(m, open) }

// open opens the store that "DSN|table" names.
func open(arg string) (tokencache.Store, error) {
	dsn, table, _ := strings.Cut(arg, "|")
	return pgstore.Open(pgstore.Config{DSN: dsn, Table: table})
}

func mustOpen(t *testing.T, arg string) *pgstore.Store {
	t.Helper()
	s, err := open(arg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.(*pgstore.Store).Close)
	return s.(*pgstore.Store)
}

var tables atomic.Int32

// newTable returns how to open a new, empty store.
func newTable(t *testing.T, dsn string) (arg string) {
	t.Helper()
	table := fmt.Sprintf("test_%d", tables.Add(1))
	s, err := pgstore.Open(pgstore.Config{DSN: dsn, Table: table})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dsn + "|" + table
}

// through returns arg with the port of the proxy.
func through(proxy *realparts.Proxy, arg string) string {
	dsn, table, _ := strings.Cut(arg, "|")
	u, err := url.Parse(dsn)
	if err != nil {
		panic(err)
	}
	u.Host = fmt.Sprintf("127.0.0.1:%d", proxy.Port)
	return u.String() + "|" + table
}

// value returns what the server answers.
func value[T any](t *testing.T, server *realparts.PostgreSQL, sql string) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func awaitTrue(t *testing.T, server *realparts.PostgreSQL, sql string) {
	t.Helper()
	for begun := time.Now(); !value[bool](t, server, sql); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > storecheck.Patience {
			t.Fatalf("not true: %s", sql)
		}
	}
}

func query(t *testing.T, server *realparts.PostgreSQL, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}
