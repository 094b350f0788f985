package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
)

const password = "s3cret-Pass"

// Each misfortune is ErrUnavailable, says what to do, and never shows the password.
func TestErrors(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t)
	newTable(t, server.URL())
	query(t, server, `CREATE ROLE app LOGIN PASSWORD '`+password+`'; CREATE ROLE weak LOGIN PASSWORD '`+password+`';
		GRANT CREATE ON SCHEMA public TO app;`)
	hba := filepath.Join(server.Dir, "data", "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	server.Start()
	as := func(user, pass, database string) string {
		return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", user, pass, server.Port, database)
	}
	ours := mustOpen(t, as("app", password, "postgres")+"|ours")
	if err := ours.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	nobody := fmt.Sprintf("127.0.0.1:%d", realparts.FreePort(t))

	for _, test := range []struct{ what, arg, says string }{
		{"nobody listens", fmt.Sprintf("postgres://app:%s@%s/postgres|ours", password, nobody), "connection refused"},
		{"unknown host", fmt.Sprintf("postgres://app:%s@nowhere.invalid/postgres|ours", password), "nowhere.invalid"},
		{"wrong password", as("app", password+"x", "postgres") + "|ours", "refuses the password"},
		{"wrong role", as("stranger", password, "postgres") + "|ours", "refuses the password"},
		{"wrong database", as("app", password, "nothing") + "|ours", "no such database"},
		{"missing table", as("app", password, "postgres") + "|missing", "call Migrate"},
		{"missing schema", as("app", password, "postgres") + "|missing.entries", "missing"},
		{"missing rights", as("weak", password, "postgres") + "|ours", "grant it"},
		{"TLS wanted", strings.Replace(as("app", password, "postgres"), "disable", "require", 1) + "|ours", "TLS"},
	} {
		t.Run(test.what, func(t *testing.T) {
			s := mustOpen(t, test.arg)
			for op, err := range everything(t.Context(), s) {
				if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%s: %v\nwant ErrUnavailable that says %q", op, err, test.says)
				}
				storecheck.Silent(t, err, password)
			}
		})
	}

	for _, dsn := range []string{
		"postgres://app:" + password + "@127.0.0.1:x/postgres", "postgres://app:" + password + " @host/%zz", "password=" + password + " host",
		"postgres://app:" + password + "@host/db?sslmode=sometimes",
	} {
		for _, cfg := range []pgstore.Config{{DSN: dsn}, {DSN: server.URL(), SessionDSN: dsn}} {
			_, err := pgstore.Open(cfg)
			if err == nil {
				t.Errorf("Open takes %q", dsn)
			}
			storecheck.Silent(t, err, password)
		}
	}
	if _, err := pgstore.Open(pgstore.Config{}); err == nil {
		t.Error("Open takes no address")
	}
	if _, err := pgstore.Open(pgstore.Config{DSN: server.URL(), Table: `x"; DROP TABLE ours; --`}); err == nil {
		t.Error("Open takes a table name that is none")
	}
}

// everything returns what each method says.
func everything(ctx context.Context, s *pgstore.Store) map[string]error {
	errs := storecheck.Everything(ctx, s)
	_, errs["Purge"] = s.Purge(ctx, time.Now())
	return errs
}

func TestReplica(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t)
	s := mustOpen(t, newTable(t, server.URL()))
	v := storecheck.Save(t, s, "a", "one", "")
	server.Stop()
	standby := filepath.Join(server.Dir, "data", "standby.signal")
	if err := os.WriteFile(standby, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	server.Start()
	_, saveErr := s.Save(t.Context(), "a", []byte("two"), v)
	_, lockErr := s.Lock(t.Context(), "a")
	for op, err := range map[string]error{"Preflight": s.Preflight(t.Context(), "a", 1), "Save": saveErr, "Lock": lockErr, "Delete": s.Delete(t.Context(), "a", v)} {
		if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "replica") {
			t.Errorf("%s on a replica: %v", op, err)
		}
	}
	if data, _, err := s.Load(t.Context(), "a"); string(data) != "one" {
		t.Errorf("loaded %q, %v", data, err)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	server := realparts.StartPostgreSQL(t)
	disk := filepath.Join(server.Dir, "disk")
	os.Mkdir(disk, 0o700)
	owner, err := user.Lookup("postgres")
	realparts.Require(t, "the user postgres", err)
	storecheck.SmallDisk(t, disk, "size=1m,mode=700,uid="+owner.Uid+",gid="+owner.Gid)
	query(t, server, `CREATE TABLESPACE small LOCATION '`+disk+`'`)
	s := mustOpen(t, newTable(t, server.URL("default_tablespace=small")))
	v := storecheck.Save(t, s, "a", "old", "")

	saved := 0
	for ; err == nil && saved < 100; saved++ {
		_, err = s.Save(t.Context(), fmt.Sprint(saved), make([]byte, 64<<10), "")
	}
	if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), "disk of the server is full") {
		t.Fatalf("after %d entries: %v", saved, err)
	}
	_, err = s.Save(t.Context(), "a", make([]byte, 64<<10), v)
	if !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("Save over an entry: %v", err)
	}
	if data, now, err := s.Load(t.Context(), "a"); string(data) != "old" || now != v {
		t.Errorf("loaded %q at %q, %v", data, now, err)
	}
	for i := range saved - 1 {
		if data, _, err := s.Load(t.Context(), fmt.Sprint(i)); err != nil || len(data) != 64<<10 {
			t.Errorf("entry %d: %d bytes, %v", i, len(data), err)
		}
	}
}

// A server that accepts connections and says nothing delays nobody beyond their context.
func TestMuteServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := mustOpen(t, fmt.Sprintf("postgres://app:%s@%s/postgres?sslmode=disable|ours", password, l.Addr()))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for op, err := range everything(ctx, s) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", op, err)
		}
		storecheck.Silent(t, err, password)
	}
}

// Whoever gives up a Lock before there is a connection spoils nothing for the next.
func TestLockAfterOneGivenUp(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := mustOpen(t, fmt.Sprintf("postgres://app@%s/postgres?sslmode=disable|ours", l.Addr()))
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := s.Lock(ctx, "a")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("while the server says nothing: %v", err)
		}
		cancel()
	}
}
