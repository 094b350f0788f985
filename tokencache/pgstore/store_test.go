package pgstore_test

import (
	"maps"
	"testing"
	"time"

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
		"waiter cut off":                waiterCutOff,
		"unlock during an outage":       unlockDuringOutage,
		"paused process":                pausedProcess,
		"many locks, one connection":    manyLocksOneConnection,
		"wrong sealing key":             wrongSealingKey,
		"account removal":               removeAccount,
		"key replacement":               replaceKey,
		"logins of another store":       moveIn,
		"least rights":                  leastRights,
		"waiters only read":             waitersOnlyRead,
		"metrics":                       metrics,
		"concurrent migration":          migrateConcurrently,
		"purge":                         purge,
		"PgBouncer in transaction mode": pgBouncer,
		"pool of the program":           poolOfTheProgram,
		"settings of the role":          settingsOfTheRole,
		"rolled back":                   rolledBackIsTriedAgain,
		"row-level security":            rowLevelSecurity,
		"traces beside older versions":  tracesBesideOlderVersions,
		"no traces":                     noTraces,
		"other schema":                  otherSchema,
		"hooks of the pool":             hooksOfThePool,
		"enveloped":                     envelopedRecords,
		"connection limit":              connectionLimit,
		"idle pages":                    idlePages,
		"rotations stay HOT":            rotationsStayHOT,
		"idle beside older versions":    idleBesideOlderVersions,
		"migrate in use":                migrateInUse,
		"migrate during a backup":       migrateDuringBackup,
		"deallocated":                   deallocated,
		"begin beside older versions":   beginBesideOlderVersions,
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

func moveIn(t *testing.T, server *realparts.PostgreSQL) {
	storecheck.MoveIn(t, mustOpen(t, newTable(t, server.URL())))
}

func replaceKey(t *testing.T, server *realparts.PostgreSQL) {
	storecheck.ReplaceKey(t, mustOpen(t, newTable(t, server.URL())), sealAnew)
}

func envelopedRecords(t *testing.T, server *realparts.PostgreSQL) {
	storecheck.Enveloped(t, mustOpen(t, newTable(t, server.URL("pool_max_conns=4"))))
}

// The store of the example is one, and tells what happens.
func metrics(t *testing.T, server *realparts.PostgreSQL) {
	seen := make(map[string]int)
	var s storecheck.Store = measured{mustOpen(t, newTable(t, server.URL())), func(op, outcome string, took time.Duration) {
		if seen[op+": "+outcome]++; took <= 0 {
			t.Errorf("%s took %v", op, took)
		}
	}}
	storecheck.RemoveAccount(t, s)
	for range 2 {
		storecheck.Everything(t.Context(), s)
	}
	s.Preflight(t.Context(), "a", 1)
	want := map[string]int{"save: ok": 7, "save: changed by someone else": 1, "load: ok": 13, "load: not found": 1, "lock: ok": 2}
	if !maps.Equal(seen, want) {
		t.Errorf("seen: %v\nwant: %v", seen, want)
	}
}
