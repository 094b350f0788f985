package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// unprepared makes each statement one round trip that leaves nothing behind on the connection,
// so that a pooler may give each transaction another one.
const unprepared = pgx.QueryExecModeExec

// modeData is the name under which a connection remembers its mode.
const modeData = "stayauth: mode"

// mode returns how to send what is sent again and again. Where the connection leads to the server
// itself, statements are prepared: to plan them takes longer than to carry them out. A program that
// has set another mode for its connections has a reason.
func (s *Store) mode(ctx context.Context, conn *pgxpool.Conn) pgx.QueryExecMode {
	data := conn.Conn().PgConn().CustomData()
	mode, known := data[modeData].(pgx.QueryExecMode)
	if known {
		return mode
	}
	mode = unprepared
	if c := conn.Conn().Config(); c.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement && c.StatementCacheCapacity > 0 {
		var backend uint32
		err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, unprepared).Scan(&backend)
		if err == nil && backend == conn.Conn().PgConn().PID() { // A pooler has a number of its own.
			mode = pgx.QueryExecModeCacheStatement
		}
	}
	data[modeData] = mode
	return mode
}

// A purpose is what a statement is for.
type purpose bool

const (
	reads  purpose = false
	writes purpose = true
)

const (
	// maxLost is how often a statement is sent on a connection that turns out to be dead,
	// as all connections are after the server was restarted.
	maxLost = 3

	// maxElsewhere is how often a statement is sent to a server that does not accept
	// writes.
	maxElsewhere = 2

	// lookElsewhere is how long a read makes do with such a server after no other was
	// found.
	lookElsewhere = time.Second

	// maxBusy is how often a statement is sent that the server rolls back for a transient
	// reason. With the pauses in between that takes a second or two.
	maxBusy      = 10
	busyPause    = 5 * time.Millisecond
	busyPauseMax = 250 * time.Millisecond
)

// do is run, with an error for the caller.
func (s *Store) do(ctx context.Context, p purpose, op, name string, f func(conn *pgxpool.Conn) error) error {
	if err := s.run(ctx, p, f); err != nil {
		return problem(ctx, op, name, err)
	}
	return nil
}

// run calls f with a connection of the pool, and calls it again if it failed because of the
// connection, or for a transient reason. So f must cope with the case that what it sent before
// was carried out, and only the answer was lost.
func (s *Store) run(ctx context.Context, p purpose, f func(conn *pgxpool.Conn) error) error {
	if p == writes {
		select {
		case s.writers <- struct{}{}:
			defer func() { <-s.writers }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	lost, elsewhere, busy := 0, 0, 0
	for pause := busyPause; ; {
		closed, err := s.once(ctx, f)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case closed:
			if lost++; lost == maxLost {
				return fmt.Errorf("the connection was lost: %w", err)
			}
			s.pool.Reset() // The others will hardly be better.
		case notThisServer(err):
			if elsewhere++; elsewhere == maxElsewhere {
				return err
			}
			s.pool.Reset() // They lead to the former primary.
		case passes(err):
			if busy++; busy == maxBusy {
				return err
			}
			select {
			case <-time.After(pause/2 + rand.N(pause)):
			case <-ctx.Done():
				return err
			}
			pause = min(2*pause, busyPauseMax)
		default:
			return err
		}
	}
}

// once also reports whether the connection has ended.
func (s *Store) once(ctx context.Context, f func(conn *pgxpool.Conn) error) (closed bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	s.see(conn.Conn().PgConn())
	err = f(conn)
	return conn.Conn().IsClosed(), err
}

// notThisServer reports whether err says that the connection leads to a server that does not
// accept writes: to the primary before a switchover, for instance. A standby refuses even to plan
// how to read uptime.
func notThisServer(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return errors.Is(err, errReadOnly) || ok && (e.Code == "25006" || e.Code == "0A000" && strings.Contains(e.File, "plancat"))
}

// passes reports whether the server has rolled back a statement that it may well carry out next
// time.
func passes(err error) bool {
	switch sqlState(err) {
	case "40001", // serialization_failure, where the default isolation is not READ COMMITTED
		"40P01", // deadlock_detected
		"26000", // invalid_sql_statement_name: somebody has deallocated all that was prepared
		"55P03", // lock_not_available, because of lock_timeout
		"57014": // query_canceled, because of statement_timeout
		return true
	}
	return false
}

// rolledBack reports whether err proves that nothing was done.
func rolledBack(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Severity == "ERROR"
}

func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}
