package pgstore

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stayauth/stayauth/tokencache"
)

// A whereabouts is what is known about where the entries are. The database may be replaced while
// this process runs, so what was asked is known until there is a new connection, because the old
// ones end with the old database, or for a minute, because a pooler may hide that; and until an
// entry is read from another table, which pg_restore --clean makes.
type whereabouts struct {
	mark string // of connections that this Store has seen

	mu          sync.Mutex
	connections int64 // that were seen so far
	known       string
	table       uint32    // of known; 0: none
	asked       time.Time // zero: never
	at          int64     // how many connections there had been then
}

const placeKnown = time.Minute

const placeQuery = `SELECT (SELECT system_identifier FROM pg_control_system()),
	(SELECT oid FROM pg_database WHERE datname = current_database()), to_regclass($1)::oid`

var placeName = regexp.MustCompile(`^[ -~]{0,100}$`)

// see counts the connection if it is new to s.
func (s *Store) see(conn *pgconn.PgConn) {
	if seen := conn.CustomData(); seen[s.where.mark] == nil {
		seen[s.where.mark] = true
		s.where.mu.Lock()
		s.where.connections++
		s.where.mu.Unlock()
	}
}

func (w *whereabouts) get() (id string, table uint32, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known, w.table, !w.asked.IsZero() && w.at == w.connections && time.Since(w.asked) < placeKnown
}

// An entry is what Load asks for.
type entry struct {
	data     []byte
	version  *int64 // nil: there is no such entry
	readOnly bool   // so is the server
}

// read reads an entry, and notices if the table is another one than before.
func (s *Store) read(ctx context.Context, conn *pgxpool.Conn, name string) (e entry, err error) {
	var table *uint32
	err = conn.QueryRow(ctx, s.sql.load, s.mode(ctx, conn), []byte(name), s.sql.entries).Scan(&e.data, &e.version, &e.readOnly, &table)
	if err != nil || table == nil {
		return e, err
	}
	s.where.mu.Lock()
	defer s.where.mu.Unlock()
	if s.where.table != 0 && s.where.table != *table {
		s.where.asked = time.Time{}
	}
	return e, nil
}

// Place implements tokencache.Placer. The id is that of the server's data, the database and the
// table, which replicas share. If the role may not ask for it, or the server does not know it, it
// is empty.
func (s *Store) Place(ctx context.Context) (id, name string, err error) {
	if id, _, ok := s.where.get(); ok {
		return id, s.name, nil
	}
	leave, err := s.gates.Enter(ctx, "") // which is not the name of an entry
	if err != nil {
		return "", "", err
	}
	defer leave()
	if id, _, ok := s.where.get(); ok {
		return id, s.name, nil
	}
	err = s.do(ctx, reads, "place", "", func(conn *pgxpool.Conn) error {
		return s.locate(ctx, conn)
	})
	id, _, _ = s.where.get()
	return id, s.name, err
}

// locate asks where the entries are.
func (s *Store) locate(ctx context.Context, conn *pgxpool.Conn) error {
	s.where.mu.Lock()
	at := s.where.connections
	s.where.mu.Unlock()
	var system *int64
	var database, table *uint32
	err := conn.QueryRow(ctx, placeQuery, unprepared, s.sql.entries).Scan(&system, &database, &table)
	id := ""
	switch {
	case rolledBack(err) && !passes(err):
		table = nil
	case err != nil:
		return err
	case system != nil && database != nil && table != nil:
		id = fmt.Sprintf("postgresql %d database %d table %d", uint64(*system), *database, *table)
	}
	s.where.mu.Lock()
	defer s.where.mu.Unlock()
	s.where.known, s.where.asked, s.where.at, s.where.table = id, time.Now(), at, 0
	if table != nil {
		s.where.table = *table
	}
	return nil
}

// stillAt returns the table in which the entries are, 0 if that is not known, or
// tokencache.ErrConflict if they are not where j has to be written.
func (s *Store) stillAt(ctx context.Context, conn *pgxpool.Conn, j *journal) (table uint32, err error) {
	if j == nil || j.place == "" {
		return 0, nil
	}
	id, table, ok := s.where.get()
	if !ok {
		if err := s.locate(ctx, conn); err != nil {
			return 0, err
		}
		id, table, _ = s.where.get()
	}
	if id != "" && id != j.place {
		return 0, tokencache.ErrConflict
	}
	return table, nil
}
