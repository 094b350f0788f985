package pgstore_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// Replicas start at the same time, and each of them migrates.
func migrateConcurrently(t *testing.T, server *realparts.PostgreSQL) {
	query(t, server, `CREATE SCHEMA app; CREATE ROLE weak LOGIN; GRANT USAGE ON SCHEMA app TO weak;
		ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO weak`)
	var wg sync.WaitGroup
	for range 16 {
		s := mustOpen(t, server.URL()+"|app.logins")
		wg.Go(func() {
			for range 3 {
				if err := s.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// Who finds the tables needs no right to make them.
	weak := mustOpen(t, strings.Replace(server.URL(), "postgres@", "weak@", 1)+"|app.logins")
	if err := weak.Migrate(t.Context()); err != nil {
		t.Error(err)
	}
	storecheck.Save(t, weak, "a", "x", "")
	storecheck.Lock(t, weak, "a")()
	if err := weak.Preflight(t.Context(), "a", 1); err != nil {
		t.Error(err)
	}
}

func purge(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	s := mustOpen(t, arg)
	query(t, server, `INSERT INTO `+table+` (name, version, saved, data)
		SELECT decode(md5(i::text), 'hex'), 1, now() - i * interval '1 hour', 'x' FROM generate_series(1, 2500) i`)
	storecheck.Save(t, s, "new", "x", "")
	for _, step := range []struct {
		age  time.Duration
		want int
	}{{2501 * time.Hour, 0}, {1000*time.Hour - time.Minute, 1501}, {1000*time.Hour - time.Minute, 0}, {-time.Hour, 1000}} {
		if n, err := s.Purge(t.Context(), time.Now().Add(-step.age)); n != step.want || err != nil {
			t.Errorf("Purge of what is older than %v: %d, %v; want %d", step.age, n, err, step.want)
		}
	}
	for name, err := range s.List(t.Context(), "") {
		t.Errorf("left: %q, %v", name, err)
	}
}

// Behind PgBouncer everything works, as long as the session is told the way to the
// server itself.
func pgBouncer(t *testing.T, server *realparts.PostgreSQL) {
	bouncer := server.StartPgBouncer(t)
	storetest.Run(t, func(t *testing.T) tokencache.Store {
		_, table, _ := strings.Cut(newTable(t, bouncer), "|")
		s, err := pgstore.Open(pgstore.Config{DSN: bouncer, SessionDSN: server.URL(), Table: table})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}, storetest.Increments(200))

	t.Run("without a session of its own", func(t *testing.T) {
		s := mustOpen(t, newTable(t, bouncer))
		if _, err := s.Lock(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "set Config.SessionDSN") {
			t.Errorf("Lock through a pooler: %v", err)
		}
	})
	t.Run("session elsewhere", func(t *testing.T) {
		query(t, server, `CREATE DATABASE other`)
		s, err := pgstore.Open(pgstore.Config{DSN: bouncer, SessionDSN: strings.Replace(server.URL(), "/postgres?", "/other?", 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lock(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "does not lead to the server and database of the pool") {
			t.Errorf("Lock with a session elsewhere: %v", err)
		}
	})
}

// A pool that the program has serves as well, and stays open.
func poolOfTheProgram(t *testing.T, server *realparts.PostgreSQL) {
	pool, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s, err := pgstore.Open(pgstore.Config{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	unlock := storecheck.Lock(t, s, "a")
	storecheck.Save(t, s, "a", "x", "")
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := pool.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
