package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// connect makes a connection that shows that this process is alive.
func (s *session) connect(ctx context.Context) (conn *pgx.Conn, uptime int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for pause := reconnectMin; ; pause *= 2 {
		conn, err := s.dial(ctx)
		if sqlState(err) != "53300" || pause > reconnectMax {
			if err == nil {
				uptime, err = s.show(ctx, conn)
			}
			return conn, uptime, err
		}
		// The pool may hold those in reserve that this role may still open.
		s.makeRoom()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, 0, err
		}
	}
}

// dial connects as the pool does: its hooks may know a short-lived password, and set the role.
func (s *session) dial(ctx context.Context) (*pgx.Conn, error) {
	config := s.config.Copy()
	if s.beforeConnect != nil {
		if err := s.beforeConnect(ctx, config); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil && s.afterConnect != nil {
		if err = s.afterConnect(ctx, conn); err != nil {
			conn.Close(ctx)
		}
	}
	return conn, err
}

// show makes a connection show that this process is alive, or else closes it.
func (s *session) show(ctx context.Context, conn *pgx.Conn) (uptime int64, err error) {
	// The server notices within 11 s that the machine of this process is gone.
	var backend uint32
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid(), set_config('tcp_keepalives_idle', '5', false),
		set_config('tcp_keepalives_interval', '2', false), set_config('tcp_keepalives_count', '3', false),
		set_config('idle_session_timeout', '0', false), set_config('statement_timeout', '0', false),
		set_config('lock_timeout', '0', false), set_config('default_transaction_isolation', 'read committed', false)`, unprepared).
		Scan(&backend, nil, nil, nil, nil, nil, nil, nil)
	if err == nil && backend != conn.PgConn().PID() {
		err = errPooler
	}
	if err == nil {
		// An earlier connection of this process may linger for a moment.
		_, err = conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, unprepared, s.owner)
	}
	if err == nil {
		uptime, s.all, err = s.resume(ctx, conn, true)
	}
	if err != nil {
		conn.Close(ctx)
	}
	return uptime, err
}

func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
}
