package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
)

// wantNotBegun checks that no refresh of r begins, now that there is a copy in its place.
func wantNotBegun(t *testing.T, c *tokencache.Cache, key tokencache.Key, r *tokencache.Record, v tokencache.Version) {
	t.Helper()
	for range 3 {
		_, _, unlock, err := c.Begin(t.Context(), key, r, v)
		if !errors.Is(err, tokencache.ErrConflict) {
			t.Errorf("a refresh begins with a copy: %v", err)
		}
		if err == nil {
			unlock()
		}
	}
}

// replaceByClone puts a clone, in which the tables have the same numbers, in the place of the
// database logins.
func replaceByClone(t *testing.T, server *realparts.PostgreSQL) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	whileUnused(t, conn, `CREATE DATABASE clone TEMPLATE logins`)
	whileUnused(t, conn, `ALTER DATABASE logins RENAME TO lost`)
	if _, err := conn.Exec(t.Context(), `ALTER DATABASE clone RENAME TO logins; ALTER DATABASE logins ALLOW_CONNECTIONS true`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

// whileUnused ends the connections to the database logins, and carries out the statement before
// there are others.
func whileUnused(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	const end = `ALTER DATABASE logins ALLOW_CONNECTIONS false; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'logins'`
	for begun := time.Now(); ; { // They take a moment to end.
		_, err := conn.Exec(t.Context(), end, pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			_, err = conn.Exec(t.Context(), sql)
		}
		if err == nil {
			return
		}
		if time.Since(begun) > storecheck.Patience {
			t.Fatal(err)
		}
	}
}

// A refresh that begins with what its process has read or saved before does not begin in a copy,
// and leaves nothing in it, whoever has noticed that it is one.
func TestNoRefreshBeginsInACopy(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"many at the same time", "another has noticed", "nobody has noticed"} {
		t.Run(name, func(t *testing.T) {
			server := realparts.StartPostgreSQL(t)
			server.Run("createdb", "logins")
			s, c := openNamed(t, database(server.URL("pool_max_conns=4"), "logins"), "")
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			const users = 16
			var records [users]*tokencache.Record
			var versions [users]tokencache.Version
			key := func(i int) tokencache.Key {
				return tokencache.Key{Issuer: placeKey.Issuer, ClientID: placeKey.ClientID, Account: fmt.Sprint(i)}
			}
			for i := range users {
				_, err := c.Save(t.Context(), key(i), &tokencache.Record{RefreshToken: "secret"}, "")
				if err == nil {
					records[i], versions[i], err = c.Load(t.Context(), key(i))
				}
				if err != nil {
					t.Fatal(err)
				}
				records[i].Attempt = &tokencache.Attempt{At: time.Now()}
			}
			replaceByClone(t, server)
			var all sync.WaitGroup
			for i := range users {
				switch name {
				case "many at the same time":
					all.Go(func() { wantNotBegun(t, c, key(i), records[i], versions[i]) })
					continue
				case "another has noticed":
					if r, _, err := c.Load(t.Context(), key((i+1)%users)); err != nil || !r.IsCopy() {
						t.Fatalf("%+v, %v", r, err)
					}
				}
				wantNotBegun(t, c, key(i), records[i], versions[i])
			}
			all.Wait()
			for i := range users {
				if r, v, err := c.Load(t.Context(), key(i)); err != nil || !r.IsCopy() || v != versions[i] || r.Attempt != nil {
					t.Errorf("the copy has changed: %+v, %v", r, err)
				}
			}
		})
	}
}
