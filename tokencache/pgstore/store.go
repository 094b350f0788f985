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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/internal/gate"
)

// A Config says which database a Store uses, and how.
type Config struct {
	// DSN is the address of the server that is written to, as a URL or in key=value
	// form, with the parameters of libpq and pgxpool: sslmode=verify-full,
	// pool_max_conns=16. Required without Pool.
	DSN string

	// Pool runs the statements in place of a pool made from DSN. The Store does not
	// close it.
	Pool *pgxpool.Pool

	// SessionDSN is the address for the one connection that shows that this process is
	// alive. It must lead to the same database without a connection pooler such as
	// PgBouncer in between. Default: the address of the pool.
	SessionDSN string

	// Table is where the entries are, in lower case, with or without a schema. The
	// locks are in a table whose name ends in "_locks" besides. Default:
	// "stayauth_entries".
	Table string
}

// A Store is a tokencache.Store in a PostgreSQL database. It is also a
// tokencache.Lister, a tokencache.Preflighter, a tokencache.Recoverer and a
// tokencache.Watcher.
type Store struct {
	pool    *pgxpool.Pool
	ownPool bool
	sql     statements
	gates   gate.Gates
	session *session
	deaths  deaths
	turns   atomic.Int64 // counts the locks of this process
}

// Open returns a Store. It does not connect: that the database is not there is an
// error of the methods, and passes when the database comes back.
func Open(cfg Config) (*Store, error) {
	if cfg.Table == "" {
		cfg.Table = "stayauth_entries"
	}
	if !tableName.MatchString(cfg.Table) {
		return nil, fmt.Errorf("pgstore: Table %q is not a name in lower case, or schema.name", cfg.Table)
	}
	s := &Store{pool: cfg.Pool, sql: newStatements(cfg.Table)}
	if s.pool == nil {
		if cfg.DSN == "" {
			return nil, errors.New("pgstore: set Config.DSN or Config.Pool")
		}
		poolConfig, err := pgxpool.ParseConfig(cfg.DSN)
		if err != nil {
			return nil, badAddress("DSN")
		}
		if s.pool, err = pgxpool.NewWithConfig(context.Background(), poolConfig); err != nil {
			return nil, badAddress("DSN")
		}
		s.ownPool = true
	}
	sessionConfig := s.pool.Config().ConnConfig
	if cfg.SessionDSN != "" {
		var err error
		if sessionConfig, err = pgx.ParseConfig(cfg.SessionDSN); err != nil {
			s.closePool()
			return nil, badAddress("SessionDSN")
		}
	}
	s.session = newSession(sessionConfig)
	return s, nil
}

// Close ends the connections that the Store has made, and with them its locks. No
// method may be called any more.
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
	err = s.do(ctx, "load", name, func(bool) error {
		var version int64
		err := s.pool.QueryRow(ctx, s.sql.load, unprepared, []byte(name)).Scan(&data, &version)
		v = formatVersion(version)
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
	if data == nil {
		data = []byte{} // A nil would be stored as NULL.
	}
	// Versions are random and not counted: no later entry of that name has one again.
	version := random()
	err := s.do(ctx, "save", name, func(again bool) error {
		query, args := s.sql.insert, []any{unprepared, []byte(name), data, version}
		if old != "" {
			query, args = s.sql.update, append(args, parseVersion(old))
		}
		done, err := s.pool.Exec(ctx, query, args...)
		if err != nil || done.RowsAffected() == 1 {
			return err
		}
		if again { // The first attempt may have succeeded, and only its answer been lost.
			var now int64
			err := s.pool.QueryRow(ctx, s.sql.version, unprepared, []byte(name)).Scan(&now)
			if err == nil && now == version || err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
		}
		return tokencache.ErrConflict
	})
	if err != nil {
		return "", err
	}
	return formatVersion(version), nil
}

// Delete implements tokencache.Store.
func (s *Store) Delete(ctx context.Context, name string, old tokencache.Version) error {
	if err := checkName(name); err != nil {
		return err
	}
	return s.do(ctx, "delete", name, func(bool) error {
		var deleted, present bool
		err := s.pool.QueryRow(ctx, s.sql.delete, unprepared, []byte(name), parseVersion(old)).Scan(&deleted, &present)
		if err == nil && present && !deleted {
			return tokencache.ErrConflict
		}
		return err
	})
}

// unprepared makes each statement one round trip that leaves nothing behind on the
// connection, so that a pooler may give every transaction another one.
const unprepared = pgx.QueryExecModeExec

// maxTries is how often a statement is tried on a connection that turns out to be
// dead, as all are after the server was restarted.
const maxTries = 3

// do runs f, which is told whether it ran before and may have succeeded.
func (s *Store) do(ctx context.Context, op, name string, f func(again bool) error) error {
	for try := 1; ; try++ {
		err := f(try > 1)
		if err == nil {
			return nil
		}
		if try == maxTries || ctx.Err() != nil || !connectionLost(err) {
			return problem(ctx, op, name, err)
		}
		s.pool.Reset() // The others will hardly be better.
	}
}

// Those of entries are positive.
const (
	noVersion    = 0  // of what is not there
	anyVersion   = -1 // for who locks whatever is there
	wrongVersion = -2 // none of ours
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

// random returns a positive number that nobody will draw again.
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
