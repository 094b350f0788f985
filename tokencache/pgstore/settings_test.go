package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// What a role or a database is set to changes what text looks like, how statements are
// isolated, and how long they may take. The store works all the same.
func settingsOfTheRole(t *testing.T, server *realparts.PostgreSQL) {
	for name, settings := range map[string][]string{
		"text":            {"bytea_output=escape", "DateStyle='German, DMY'", "TimeZone='Asia/Kolkata'", "IntervalStyle=sql_standard", "extra_float_digits=-3"},
		"serializable":    {"default_transaction_isolation=serializable"},
		"repeatable read": {"default_transaction_isolation='repeatable read'"},
		"time-outs":       {"statement_timeout='100ms'", "lock_timeout='20ms'", "idle_session_timeout='200ms'"},
	} {
		t.Run(name, func(t *testing.T) {
			role := "set_" + strings.ReplaceAll(name, " ", "_")
			role = strings.ReplaceAll(role, "-", "_")
			query(t, server, `CREATE ROLE `+role+` LOGIN; GRANT CREATE ON SCHEMA public TO `+role)
			for _, setting := range settings {
				query(t, server, `ALTER ROLE `+role+` SET `+setting)
			}
			t.Parallel() // PostgreSQL refuses two GRANTs on a schema at the same moment.
			dsn := strings.Replace(server.URL("pool_max_conns=4"), "postgres@", role+"@", 1)
			storetest.Run(t, func(t *testing.T) tokencache.Store { return mustOpen(t, newTable(t, dsn)) }, storetest.Increments(200))

			s := mustOpen(t, newTable(t, dsn))
			storecheck.Save(t, s, "old", "\x00\x01\\\xff", "")
			time.Sleep(time.Second)
			cut := time.Now().Add(-500 * time.Millisecond)
			storecheck.Save(t, s, "new", "x", "")
			if n, err := s.Purge(t.Context(), cut); n != 1 || err != nil {
				t.Errorf("Purge: %d, %v", n, err)
			}
		})
	}
}

// A statement that was rolled back because another one ran at the same time is sent
// again: nobody hears of it.
func rolledBackIsTriedAgain(t *testing.T, server *realparts.PostgreSQL) {
	query(t, server, `CREATE ROLE picky LOGIN; GRANT CREATE ON SCHEMA public TO picky;
		ALTER ROLE picky SET default_transaction_isolation=serializable; ALTER ROLE picky SET lock_timeout='50ms'`)
	arg := newTable(t, strings.Replace(server.URL("pool_max_conns=8"), "postgres@", "picky@", 1))
	var wg sync.WaitGroup
	for range 4 {
		s := mustOpen(t, arg)
		for user := range 20 {
			wg.Go(func() {
				for range 5 {
					if err := rotate(t.Context(), s, fmt.Sprint(user)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()

	// Somebody has locked a table for longer than lock_timeout, and then not any more.
	_, table, _ := strings.Cut(arg, "|")
	s := mustOpen(t, arg)
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `BEGIN; LOCK TABLE `+table, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	rotated := make(chan error, 1)
	go func() { rotated <- rotate(t.Context(), s, "0") }()
	time.Sleep(400 * time.Millisecond)
	if _, err := conn.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-rotated; err != nil {
		t.Error(err)
	}
}

// rotate does what a refresh does.
func rotate(ctx context.Context, s tokencache.Store, name string) error {
	unlock, err := s.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	data, v, err := s.Load(ctx, name)
	if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
		return err
	}
	if v, err = s.Save(ctx, name, append(data, '.'), v); err == nil {
		_, err = s.Save(ctx, name, append(data, 'x'), v)
	}
	return err
}

// Rows that the server hides are not absent.
func rowLevelSecurity(t *testing.T, server *realparts.PostgreSQL) {
	arg := newTable(t, server.URL())
	_, table, _ := strings.Cut(arg, "|")
	query(t, server, strings.ReplaceAll(`CREATE ROLE secured LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON {t}, {t}_locks TO secured`, "{t}", table))
	s := mustOpen(t, strings.Replace(arg, "postgres@", "secured@", 1))
	storecheck.Save(t, s, "a", "x", "")
	works := func(when string) {
		t.Helper()
		if _, _, err := s.Load(t.Context(), "a"); err != nil {
			t.Errorf("%s, Load: %v", when, err)
		}
		if _, _, err := s.Load(t.Context(), "absent"); !errors.Is(err, tokencache.ErrNotFound) {
			t.Errorf("%s, Load of what is absent: %v", when, err)
		}
		if err := s.Preflight(t.Context(), "a", 1); err != nil {
			t.Errorf("%s, Preflight: %v", when, err)
		}
	}
	works("without it")
	query(t, server, strings.ReplaceAll(`ALTER TABLE {t} ENABLE ROW LEVEL SECURITY; ALTER TABLE {t}_locks ENABLE ROW LEVEL SECURITY;
		CREATE POLICY other ON {t} TO postgres USING (true); CREATE POLICY part ON {t} USING (version = 0)`, "{t}", table))
	_, _, loadErr := s.Load(t.Context(), "a")
	var listErr error
	for _, listErr = range s.List(t.Context(), "") {
	}
	for op, err := range map[string]error{"Load": loadErr, "List": listErr, "Preflight": s.Preflight(t.Context(), "a", 1)} {
		if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNotFound) || !strings.Contains(err.Error(), "row-level security") {
			t.Errorf("%s of what is hidden: %v", op, err)
		}
	}
	// Whatever the policies say, what counts is what they do.
	for i, policies := range []string{
		`CREATE POLICY ours ON {t} TO secured USING (true); CREATE POLICY ours ON {t}_locks USING (true)`,
		`DROP POLICY ours ON {t}; CREATE POLICY named ON {t} USING (octet_length(name) < 100 AND current_user = 'secured')`,
		`DROP POLICY named ON {t}; CREATE POLICY r ON {t} FOR SELECT USING (name IS NOT NULL); CREATE POLICY i ON {t} FOR INSERT WITH CHECK (1 = 1);
			CREATE POLICY u ON {t} FOR UPDATE USING (version > 0); CREATE POLICY d ON {t} FOR DELETE USING (now() > '2000-01-01')`,
	} {
		query(t, server, strings.ReplaceAll(policies, "{t}", table))
		works(fmt.Sprint("with policies ", i))
		if err := rotate(t.Context(), s, "a"); err != nil {
			t.Error(err)
		}
	}
	query(t, server, strings.ReplaceAll(`DROP POLICY r ON {t}; DROP POLICY part ON {t};
		CREATE POLICY own ON {t} FOR SELECT USING (convert_from(name, 'UTF8') LIKE 'tenant%')`, "{t}", table))
	if _, _, err := s.Load(t.Context(), "tenant: absent"); !errors.Is(err, tokencache.ErrNotFound) {
		t.Errorf("Load of what would be seen: %v", err)
	}
	if _, _, err := s.Load(t.Context(), "a"); errors.Is(err, tokencache.ErrNotFound) || !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("Load of what the tenant does not see: %v", err)
	}
}

// The connection that shows that the process lives is made as those of the pool are.
func hooksOfThePool(t *testing.T, server *realparts.PostgreSQL) {
	query(t, server, `CREATE ROLE hooked LOGIN NOINHERIT; CREATE ROLE owner_of_logins; GRANT owner_of_logins TO hooked; CREATE SCHEMA hooked AUTHORIZATION owner_of_logins`)
	config, err := pgxpool.ParseConfig(strings.Replace(server.URL(), "postgres@", "nobody@", 1))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	names := map[string]int{}
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error { // In place of the password of the hour.
		mu.Lock()
		defer mu.Unlock()
		c.User, c.RuntimeParams["application_name"] = "hooked", fmt.Sprint("hooked ", len(names))
		names[c.RuntimeParams["application_name"]]++
		return nil
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SET ROLE owner_of_logins; SET search_path = hooked`)
		return err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s, err := pgstore.Open(pgstore.Config{Pool: pool, Table: "logins"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := rotate(t.Context(), s, "a"); err != nil {
			t.Fatal(err)
		}
		query(t, server, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'hooked%'`)
	}
}

// A pool may use all connections that the role has: the one that shows that the process
// lives gets its place as soon as the pool can spare one.
func connectionLimit(t *testing.T, server *realparts.PostgreSQL) {
	query(t, server, `CREATE ROLE limited LOGIN CONNECTION LIMIT 4; GRANT CREATE ON SCHEMA public TO limited`)
	arg := newTable(t, strings.Replace(server.URL("pool_max_conns=4"), "postgres@", "limited@", 1))
	s := mustOpen(t, arg)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				s.Load(t.Context(), "a")
			}
		})
	}
	wg.Wait()
	if err := rotate(t.Context(), s, "a"); err != nil {
		t.Error(err)
	}
}
