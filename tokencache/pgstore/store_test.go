package pgstore_test

import (
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

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
		"account removal":               removeAccount,
		"least rights":                  leastRights,
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

func wrongSealingKey(t *testing.T, server *realparts.PostgreSQL) {
	storecheck.WrongSealingKey(t, mustOpen(t, newTable(t, server.URL())))
}

func removeAccount(t *testing.T, server *realparts.PostgreSQL) {
	storecheck.RemoveAccount(t, mustOpen(t, newTable(t, server.URL())))
}
