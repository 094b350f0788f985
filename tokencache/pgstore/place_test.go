package pgstore_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

// openNamed opens the entries of a database under a name.
func openNamed(t *testing.T, dsn, name string) (*pgstore.Store, *tokencache.Cache) {
	t.Helper()
	s, err := pgstore.Open(pgstore.Config{DSN: dsn, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c, err := tokencache.New(s, tokencache.KeyBytes([]byte("a key of exactly 32 bytes, sealed")[:32]))
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

var placeKey = tokencache.Key{Issuer: "https://issuer.test", ClientID: "app", Account: "ann"}

// wantCopy checks whether the record is a copy, as a new process finds it.
func wantCopy(t *testing.T, what, dsn, name string, want bool) {
	t.Helper()
	_, c := openNamed(t, dsn, name)
	r, _, err := c.Load(t.Context(), placeKey)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if r.IsCopy() != want {
		t.Errorf("%s: it is a copy: %t, want %t", what, r.IsCopy(), want)
	}
}

// database returns the address of another database of the server.
func database(dsn, name string) string { return strings.Replace(dsn, "/postgres?", "/"+name+"?", 1) }

// What is restored or cloned is a copy (F7). A restart, a standby that is promoted and a change of
// the role are none.
func TestCopiesOfADatabase(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t)
	dsn := server.URL("pool_max_conns=2")
	s, c := openNamed(t, dsn, "")
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Save(t.Context(), placeKey, &tokencache.Record{RefreshToken: "secret"}, ""); err != nil {
		t.Fatal(err)
	}
	standby := server.StartStandby(t, "b")
	wantCopy(t, "the same", dsn, "", false)
	query(t, server, `CREATE ROLE app LOGIN`)
	query(t, server, `GRANT SELECT, INSERT, UPDATE, DELETE ON stayauth_entries, stayauth_entries_locks, stayauth_entries_gone TO app`)
	app := strings.Replace(dsn, "postgres@", "app@", 1)
	wantCopy(t, "an ordinary role", app, "", false)
	query(t, server, `VACUUM FULL stayauth_entries`)
	wantCopy(t, "after VACUUM FULL", dsn, "", false)

	dump := filepath.Join(server.Dir, "dump")
	server.Run("pg_dump", "-Fc", "--no-acl", "-f", dump, "postgres")
	server.Run("createdb", "-T", "template0", "restored")
	server.Run("pg_restore", "-d", "restored", dump)
	wantCopy(t, "restored from a dump", database(dsn, "restored"), "", true)
	query(t, server, `CREATE SCHEMA staging; CREATE TABLE staging.stayauth_entries (LIKE stayauth_entries INCLUDING ALL); INSERT INTO staging.stayauth_entries SELECT * FROM stayauth_entries`)
	wantCopy(t, "in another schema", dsn+"&search_path=staging", "", true)
	query(t, server, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'restored'`)
	server.Run("createdb", "-T", "restored", "clone")
	wantCopy(t, "cloned by a template", database(dsn, "clone"), "", true)
	// Another server, in which the database and the table have the same numbers.
	elsewhere := realparts.StartPostgreSQL(t)
	other, _ := openNamed(t, elsewhere.URL(), "")
	if err := other.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	elsewhere.Run("pg_restore", "--clean", "--if-exists", "-d", "postgres", copyFile(t, server, elsewhere, dump))
	wantCopy(t, "restored on another server", elsewhere.URL(), "", true)

	// Where the role may not ask, nothing is known, and nothing is held against a record.
	query(t, server, `GRANT pg_read_all_data TO app`)
	wantCopy(t, "restored, seen by an ordinary role", database(app, "restored"), "", true)
	conn, err := pgx.Connect(t.Context(), database(server.URL(), "restored"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC`); err != nil {
		t.Fatal(err)
	}
	wantCopy(t, "a role that may not ask", database(app, "restored"), "", false)

	server.Stop()
	server.Start()
	wantCopy(t, "after a restart", dsn, "", false)
	if r, _, err := c.Load(t.Context(), placeKey); err != nil || r.IsCopy() {
		t.Errorf("after a restart, in a process that has outlived it: %+v, %v", r, err)
	}
	server.Stop()
	standby.Promote()
	wantCopy(t, "a standby that was promoted", standby.URL(), "", false)
}

// copyFile gives another server a file of the first.
func copyFile(t *testing.T, from, to *realparts.PostgreSQL, file string) string {
	t.Helper()
	to.GiveFile("dump", file)
	return filepath.Join(to.Dir, "data", "dump")
}

// Copies that nothing in them tells apart are told apart by the name.
func TestPhysicalCopiesAreToldApartByName(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t)
	s, unnamed := openNamed(t, server.URL(), "")
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, err := unnamed.Save(t.Context(), placeKey, &tokencache.Record{RefreshToken: "secret"}, "")
	if err != nil {
		t.Fatal(err)
	}
	// The name is given while processes without it run.
	_, named := openNamed(t, server.URL(), "production")
	wantCopy(t, "named since", server.URL(), "production", false)
	r, _, err := named.Load(t.Context(), placeKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = named.Save(t.Context(), placeKey, r, v); err != nil {
		t.Fatal(err)
	}
	wantCopy(t, "a process without a name", server.URL(), "", false)
	clone := server.StartStandby(t, "clone")
	clone.Promote()
	wantCopy(t, "a physical copy without a name", clone.URL(), "", false)
	wantCopy(t, "a physical copy with the same name", clone.URL(), "production", false)
	wantCopy(t, "a physical copy with another name", clone.URL(), "staging", true)
	if _, err := pgstore.Open(pgstore.Config{DSN: server.URL(), Name: "a\nb"}); err == nil {
		t.Error("a name of two lines is accepted")
	}
}

// A table that pg_restore replaces in place, under the connections of a running process, is noticed
// with the first entry that is read from it.
func TestTableIsReplacedUnderARunningProcess(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t)
	s, c := openNamed(t, server.URL("pool_max_conns=1"), "")
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Save(t.Context(), placeKey, &tokencache.Record{RefreshToken: "secret"}, ""); err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(server.Dir, "dump")
	server.Run("pg_dump", "-Fc", "-f", dump, "postgres")
	before, v, err := c.Load(t.Context(), placeKey)
	if err != nil || before.IsCopy() {
		t.Fatalf("before: %+v, %v", before, err)
	}
	server.Run("pg_restore", "--clean", "-d", "postgres", dump)
	wantNotBegun(t, c, placeKey, before, v)
	if r, _, err := c.Load(t.Context(), placeKey); err != nil || !r.IsCopy() {
		t.Errorf("restored in place: %+v, %v", r, err)
	}
	if n, err := c.Adopt(t.Context()); n != 1 || err != nil {
		t.Errorf("adopted %d, %v", n, err)
	}
	if r, _, err := c.Load(t.Context(), placeKey); err != nil || r.IsCopy() {
		t.Errorf("adopted: %+v, %v", r, err)
	}
}

// A database that is replaced under the running processes is noticed by them.
func TestDatabaseIsReplacedUnderARunningProcess(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t)
	server.Run("createdb", "logins")
	dsn := database(server.URL("pool_max_conns=4"), "logins")
	s, c := openNamed(t, dsn, "")
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Save(t.Context(), placeKey, &tokencache.Record{RefreshToken: "secret"}, ""); err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(server.Dir, "dump")
	server.Run("pg_dump", "-Fc", "-f", dump, "logins")
	unlock, err := c.Lock(t.Context(), placeKey) // The connection that shows that it is alive is replaced too.
	if err != nil {
		t.Fatal(err)
	}
	server.Run("createdb", "-T", "template0", "restored")
	server.Run("pg_restore", "-d", "restored", dump)
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	whileUnused(t, conn, `ALTER DATABASE logins RENAME TO lost`)
	if _, err := conn.Exec(t.Context(), `ALTER DATABASE restored RENAME TO logins`); err != nil {
		t.Fatal(err)
	}
	r, _, err := c.Load(t.Context(), placeKey)
	if err != nil || !r.IsCopy() {
		t.Errorf("it is not noticed: %+v, %v", r, err)
	}
	unlock()
}
