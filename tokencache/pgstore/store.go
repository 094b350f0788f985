package pgstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/gate"
)

// A Config says which database a Store uses, and how.
type Config struct {
	// DSN is the address of the primary server, as a URL or in key=value form, with the
	// parameters of libpq and pgxpool: sslmode=verify-full, pool_max_conns=16. Required
	// without Pool.
	DSN string

	// Pool runs the statements instead of a pool made from DSN. Its BeforeConnect may
	// supply short-lived passwords, and its AfterConnect may set the role. The Store does
	// not close it.
	Pool *pgxpool.Pool

	// SessionDSN is the address for the one connection that shows that this process is
	// alive. It must lead to the same database without a connection pooler such as
	// PgBouncer in between. If it has no password, the pool's BeforeConnect is called for
	// it too; AfterConnect always is. Default: the address of the pool.
	SessionDSN string

	// Table is the name of the table of entries, in lower case, with or without a schema.
	// The locks are in a table of that name followed by "_locks". Default:
	// "stayauth_entries".
	Table string

	// Name, such as "production", tells this database from copies of it that nothing in
	// them does: copies of the whole server, by snapshots of its disk or by its log. It is
	// sealed into each record when that is saved, see tokencache.Placer. Give every copy
	// another Name, before its service starts. Default: none; then copies that are made by
	// pg_dump or CREATE DATABASE, or inside the database, are told apart by themselves.
	Name string
}

// A Store is a tokencache.Store in a PostgreSQL database. It is also a
// tokencache.Lister, a tokencache.IdleLister, a tokencache.Preflighter, a tokencache.Recoverer,
// a tokencache.Watcher, a tokencache.Placer and a tokencache.Checker.
type Store struct {
	name    string
	pool    *pgxpool.Pool
	ownPool bool
	sql     statements
	gates   gate.Gates
	session *session
	deaths  deaths
	holds   holds
	where   whereabouts

	// writers has a place for each connection of the pool but one, which is for reads:
	// writes may hang, if a synchronous replica is gone or a table is locked, and callers
	// whose token is good must not wait for them.
	writers chan struct{}

	noSpans atomic.Int64 // when the column saved_span was found missing, in Unix milliseconds

	onlyReads atomic.Int64 // when no server was found that accepts writes, in Unix milliseconds
}

// Open returns a Store. It does not connect: if the database cannot be reached, the methods
// return errors until it is back.
func Open(cfg Config) (*Store, error) {
	if cfg.Table == "" {
		cfg.Table = "stayauth_entries"
	}
	if !tableName.MatchString(cfg.Table) {
		return nil, fmt.Errorf("pgstore: Table %q is not a name in lower case, or schema.name", cfg.Table)
	}
	if !placeName.MatchString(cfg.Name) {
		return nil, fmt.Errorf("pgstore: Name %q is not printable ASCII, or longer than 100", cfg.Name)
	}
	s := &Store{name: cfg.Name, pool: cfg.Pool, sql: newStatements(cfg.Table)}
	if s.pool == nil {
		if cfg.DSN == "" {
			return nil, errors.New("pgstore: set Config.DSN or Config.Pool")
		}
		poolConfig, err := pgxpool.ParseConfig(cfg.DSN)
		if err != nil {
			return nil, badAddress("DSN")
		}
		heedUnconfirmed(poolConfig.ConnConfig)
		passSilentHosts(poolConfig.ConnConfig)
		if s.pool, err = pgxpool.NewWithConfig(context.Background(), poolConfig); err != nil {
			return nil, badAddress("DSN")
		}
		s.ownPool = true
	}
	poolConfig := s.pool.Config()
	s.writers = make(chan struct{}, max(1, poolConfig.MaxConns-1))
	s.session = newSession(poolConfig)
	s.session.makeRoom, s.session.resume = s.pool.Reset, s.resume
	s.where.mark = fmt.Sprint("stayauth pgstore ", s.session.owner)
	if cfg.SessionDSN != "" {
		var err error
		if s.session.config, err = pgx.ParseConfig(cfg.SessionDSN); err != nil {
			s.closePool()
			return nil, badAddress("SessionDSN")
		}
		passSilentHosts(s.session.config)
		if s.session.config.Password != "" {
			s.session.beforeConnect = nil
		}
	}
	return s, nil
}

// Close ends the connections that the Store has made, and with them its locks. No method may be
// called afterwards.
func (s *Store) Close() {
	s.session.close()
	s.closePool()
}

func (s *Store) closePool() {
	if s.ownPool {
		s.pool.Close()
	}
}

// Load implements tokencache.Store.
func (s *Store) Load(ctx context.Context, name string) (data []byte, v tokencache.Version, err error) {
	if err := checkName(name); err != nil {
		return nil, "", err
	}
	looked := false
	err = s.do(ctx, reads, "load", name, func(conn *pgxpool.Conn) error {
		e, err := s.read(ctx, conn, name)
		if err != nil {
			return err
		}
		// The primary before a switchover has what was saved up to then. If there is no
		// other server, that will do.
		if now := time.Now().UnixMilli(); e.readOnly && looked {
			s.onlyReads.Store(now)
		} else if e.readOnly && now-s.onlyReads.Load() > lookElsewhere.Milliseconds() {
			looked = true
			return errReadOnly
		}
		if e.version != nil {
			data, v = e.data, formatVersion(*e.version)
			return nil
		}
		if err := s.visible(ctx, conn, []byte(name)); err != nil {
			return err
		}
		var traced bool
		err = conn.QueryRow(ctx, s.sql.traced, unprepared, []byte(name), s.sql.gone).Scan(&traced)
		switch {
		case untraced(err):
			return tokencache.ErrNotFound
		case err == nil && !traced:
			return tokencache.ErrNoTrace
		case err == nil:
			return tokencache.ErrNotFound
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return data, v, nil
}

// Save implements tokencache.Store.
func (s *Store) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	// Versions are random rather than counted, so that no later entry of that name has the
	// same one.
	version := random()
	exec := func(conn *pgxpool.Conn, sql saving) (done pgconn.CommandTag, err error) {
		args := []any{s.mode(ctx, conn), []byte(name), notNil(data), version}
		if old != "" {
			return conn.Exec(ctx, sql.update, append(args, parseVersion(old))...)
		}
		if done, err = conn.Exec(ctx, sql.insertTraced, args...); untraced(err) {
			done, err = conn.Exec(ctx, sql.insert, args...)
		}
		return done, err
	}
	err := s.do(ctx, writes, "save", name, func(conn *pgxpool.Conn) error {
		var done pgconn.CommandTag
		err := s.withSpans(func(sql saving) (err error) { done, err = exec(conn, sql); return err })
		if unconfirmed(conn) && err == nil {
			err = errUnconfirmed
		}
		if err == nil && done.RowsAffected() == 0 {
			err = tokencache.ErrConflict
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return formatVersion(version), nil
}

// withSpans calls f with the statements that save an entry, as the table was last seen: with the
// column saved_span if somebody has called Migrate since this version.
func (s *Store) withSpans(f func(saving) error) error {
	if time.Now().UnixMilli()-s.noSpans.Load() < lookForColumn.Milliseconds() {
		return f(s.sql.saving[0])
	}
	err := f(s.sql.saving[1])
	if sqlState(err) == lacksColumn {
		s.noSpans.Store(time.Now().UnixMilli())
		err = f(s.sql.saving[0])
	}
	return err
}

// lookForColumn is how long the column is taken to be missing. Each try is an error in the log of
// the server.
const lookForColumn = time.Minute

// lacksColumn is the SQLSTATE undefined_column.
const lacksColumn = "42703"

// Delete implements tokencache.Store.
func (s *Store) Delete(ctx context.Context, name string, old tokencache.Version) error {
	if err := checkName(name); err != nil {
		return err
	}
	return s.do(ctx, writes, "delete", name, func(conn *pgxpool.Conn) error {
		var deleted, present bool
		args := []any{unprepared, []byte(name), parseVersion(old)}
		err := conn.QueryRow(ctx, s.sql.deleteTraced, args...).Scan(&deleted, &present)
		if untraced(err) {
			err = conn.QueryRow(ctx, s.sql.delete, args...).Scan(&deleted, &present)
		}
		if err == nil && present && !deleted {
			err = tokencache.ErrConflict
		}
		return err
	})
}

// untraced reports whether err says that there are no traces: Migrate has not been called since
// this version, or the rights were not granted. Or it says the same about the entries, and will
// say so again.
func untraced(err error) bool {
	state := sqlState(err)
	return state == "42P01" || state == lacksRight
}

// The versions of entries are positive.
const (
	noVersion    = 0  // of an entry that does not exist
	anyVersion   = -1 // to lock regardless of the version
	wrongVersion = -2 // not a version of this package
)

func formatVersion(v int64) tokencache.Version {
	return tokencache.Version(strconv.FormatInt(v, 36))
}

func parseVersion(v tokencache.Version) int64 {
	n, err := strconv.ParseInt(string(v), 36, 64)
	if err != nil || n <= 0 || formatVersion(n) != v {
		return noVersion
	}
	return n
}

// random returns a positive number that will not be drawn again.
func random() int64 {
	var b [8]byte
	rand.Read(b[:])
	return max(1, int64(binary.NativeEndian.Uint64(b[:])&math.MaxInt64))
}

func checkName(name string) error {
	if len(name) < 1 || len(name) > 128 {
		return fmt.Errorf("pgstore: a name has 1 to 128 bytes, not %d", len(name))
	}
	return nil
}
