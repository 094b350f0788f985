package pgstore_test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

func TestMain(m *testing.M) {
	if arg, ok := os.LookupEnv(holderEnv); ok {
		fmt.Println(hold(arg))
		return
	}
	storetest.Child(open)
	os.Exit(m.Run())
}

// These tests share a server, because they leave it as it is.
func TestStore(t *testing.T) {
	server := realparts.StartPostgreSQL(t, "max_connections=500")
	for name, test := range map[string]func(t *testing.T, server *realparts.PostgreSQL){
		"contract":                      contract,
		"lock of one cut off":           lockOfOneCutOff,
		"unlock during an outage":       unlockDuringOutage,
		"paused process":                pausedProcess,
		"many locks, one connection":    manyLocksOneConnection,
		"wrong sealing key":             wrongSealingKey,
		"concurrent migration":          migrateConcurrently,
		"purge":                         purge,
		"PgBouncer in transaction mode": pgBouncer,
		"pool of the program":           poolOfTheProgram,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, server)
		})
	}
}

func contract(t *testing.T, server *realparts.PostgreSQL) {
	dsn := server.URL("pool_max_conns=4")
	storetest.RunShared(t, func(t *testing.T) string { return newTable(t, dsn) }, open, storetest.Increments(1000))
}

// open opens the store that "DSN|table" names.
func open(arg string) (tokencache.Store, error) {
	dsn, table, _ := strings.Cut(arg, "|")
	return pgstore.Open(pgstore.Config{DSN: dsn, Table: table})
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
