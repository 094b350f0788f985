package realparts

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A PostgreSQL is a running server with a database of its own, in which the user
// postgres needs no password.
type PostgreSQL struct {
	Server
	Dir string // where it keeps its data, and its socket

	bin   string
	as    []string // the command that changes to the user postgres, if root runs the test
	owner []int    // the user and group of that user
}

// StartPostgreSQL starts a server. The settings are those of postgresql.conf, such as
// "max_connections=500".
func StartPostgreSQL(t testing.TB, settings ...string) *PostgreSQL {
	t.Helper()
	p := newPostgreSQL(t)
	p.must("initdb", "-D", p.data(), "-A", "trust", "-U", "postgres", "-N", "--locale=C", "-E", "UTF8")
	p.serve(settings)
	return p
}

// StartStandby starts a server that replicates p and is called name there, as in
// synchronous_standby_names. It is as far as p when StartStandby returns.
func (p *PostgreSQL) StartStandby(t testing.TB, name string, settings ...string) *PostgreSQL {
	t.Helper()
	s := newPostgreSQL(t)
	s.copy(p, name)
	s.serve(settings)
	return s
}

// Follow makes a former primary, which is not running, a standby of p, as StartStandby does.
func (s *PostgreSQL) Follow(p *PostgreSQL, name string) {
	s.t.Helper()
	if err := os.RemoveAll(s.data()); err != nil {
		s.t.Fatal(err)
	}
	s.copy(p, name)
	s.Start()
}

func (s *PostgreSQL) copy(p *PostgreSQL, name string) {
	s.t.Helper()
	s.must("pg_basebackup", "-D", s.data(), "-R", "-c", "fast", "-d",
		fmt.Sprintf("host=127.0.0.1 port=%d user=postgres application_name=%s", p.Port, name))
}

// newPostgreSQL returns a server that has no data yet.
func newPostgreSQL(t testing.TB) *PostgreSQL {
	t.Helper()
	const what = "PostgreSQL (Debian: apt-get install postgresql)"
	bin, err := postgresPrograms()
	Require(t, what, err)
	p := &PostgreSQL{bin: bin, Server: Server{Port: FreePort(t), t: t, what: "PostgreSQL", crash: "QUIT"}}
	// Not t.TempDir: its path is too long for a socket, and closed to other users.
	if p.Dir, err = os.MkdirTemp("", "postgresql-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.Dir) })
	if os.Getuid() == 0 { // The server refuses to run as root.
		owner, err := user.Lookup("postgres")
		Require(t, what, err)
		uid, _ := strconv.Atoi(owner.Uid)
		gid, _ := strconv.Atoi(owner.Gid)
		p.owner = []int{uid, gid}
		if err := os.Chown(p.Dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		p.as = []string{"setpriv", "--reuid=" + owner.Uid, "--regid=" + owner.Gid, "--clear-groups"}
	}
	return p
}

func (p *PostgreSQL) data() string { return filepath.Join(p.Dir, "data") }

// Run runs a client program of PostgreSQL, such as pg_dump, on the server, and returns what it
// prints.
func (p *PostgreSQL) Run(name string, args ...string) (output string) {
	p.t.Helper()
	return p.must(name, append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(p.Port), "-U", "postgres"}, args...)...)
}

// Promote makes a standby a primary, whatever becomes of the old one.
func (p *PostgreSQL) Promote() {
	p.t.Helper()
	p.must("pg_ctl", "promote", "-w", "-D", p.data())
}

// must runs a program that prepares the data, and returns what it prints.
func (p *PostgreSQL) must(name string, args ...string) (output string) {
	p.t.Helper()
	out, err := p.program(name, args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// serve starts the server on its data.
func (p *PostgreSQL) serve(settings []string) {
	p.t.Helper()
	port := strconv.Itoa(p.Port)
	p.command = func() (string, []string) {
		args := append(p.as[:len(p.as):len(p.as)], "sh", "-c", untilInput, "sh", filepath.Join(p.bin, "postgres"), "-D", p.data(), "-p", port,
			"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+p.Dir)
		for _, s := range settings {
			args = append(args, "-c", s)
		}
		return args[0], args[1:]
	}
	p.ready = func() error { return p.program("pg_isready", "-q", "-h", "127.0.0.1", "-p", port).Run() }
	p.run()
}

// GiveFile copies a file into the directory of the server's data, for the server's eyes
// only.
func (p *PostgreSQL) GiveFile(name, from string) {
	p.t.Helper()
	content, err := os.ReadFile(from)
	to := filepath.Join(p.data(), name)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err == nil && p.owner != nil {
		err = os.Chown(to, p.owner[0], p.owner[1])
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// URL is the address of the database, with the parameters given, such as
// "pool_max_conns=4".
func (p *PostgreSQL) URL(params ...string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?%s", p.Port, strings.Join(append(params, "sslmode=disable"), "&"))
}

// URLOfPrimary is the address of the database on whichever of p and another server is the
// primary.
func (p *PostgreSQL) URLOfPrimary(other *PostgreSQL, params ...string) string {
	url := p.URL(append(params, "target_session_attrs=read-write")...)
	port := fmt.Sprint(":", p.Port)
	return strings.Replace(url, port, fmt.Sprintf("%s,127.0.0.1:%d", port, other.Port), 1)
}

func (p *PostgreSQL) program(name string, args ...string) *exec.Cmd {
	args = append(append(p.as[:len(p.as):len(p.as)], filepath.Join(p.bin, name)), args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = p.Dir
	return cmd
}

// postgresPrograms returns the directory of the server's programs, which Debian does
// not have in the PATH.
func postgresPrograms() (string, error) {
	if versions, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(versions) > 0 {
		return filepath.Dir(versions[len(versions)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", err
	}
	path, err = filepath.EvalSymlinks(path)
	return filepath.Dir(path), err
}

// StartPgBouncer starts a connection pooler in front of the server, in transaction
// mode: each transaction may get another connection. It returns the pooler's URL.
func (p *PostgreSQL) StartPgBouncer(t testing.TB) (url string) {
	t.Helper()
	return p.StartPgBouncerTo(t, p.Port)
}

// StartPgBouncerTo is StartPgBouncer for a pooler whose connections go to another port: that of a
// Proxy, for instance, which leads them elsewhere after a failover.
func (p *PostgreSQL) StartPgBouncerTo(t testing.TB, server int) (url string) {
	t.Helper()
	bouncer, err := exec.LookPath("pgbouncer")
	Require(t, "PgBouncer (Debian: apt-get install pgbouncer)", err)
	port := FreePort(t)
	config := filepath.Join(p.Dir, "pgbouncer.ini")
	if err := os.WriteFile(config, fmt.Appendf(nil, `[databases]
postgres = host=127.0.0.1 port=%d user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
server_login_retry = 1
`, server, port), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &Server{Port: port, t: t, what: "PgBouncer", crash: "KILL",
		command: func() (string, []string) {
			args := append(p.as[:len(p.as):len(p.as)], "sh", "-c", untilInput, "sh", bouncer, config)
			return args[0], args[1:]
		},
		ready: func() error { return dial(port) },
	}
	s.run()
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}
