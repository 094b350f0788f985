package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A refresh writes its lock and its journal without a wait for the disk, so a crash of the server,
// or a failover, can take both back while the provider answers. Others must not take the lock then.
// So a table that is not logged has one row, which PostgreSQL removes whenever it may have lost
// what was not on the disk. The first process that is connected again puts it back, with the time;
// no process takes a lock that nobody has until the length of grace has passed since then; and
// meanwhile those that live take theirs again. Their journal is gone: it would have told what to do
// if they died, or got no answer.
//
// A server that was restarted is treated in the same way, in case its tables that are not logged
// are like others.
//
// Where the table is missing, because nobody has called Migrate since there is one, the journal and
// the lock are on the disk before the refresh token is spent.

const uptimeSchema = `
DO $$ BEGIN
	IF to_regclass('{uptime}') IS NULL THEN
		CREATE UNLOGGED TABLE {uptime} (
			one     boolean PRIMARY KEY CHECK (one),
			id      bigint NOT NULL,
			since   timestamptz NOT NULL,
			started timestamptz NOT NULL
		);
		INSERT INTO {uptime} VALUES (true, 1 + floor(random() * 1e15)::bigint, '-infinity', pg_postmaster_start_time());
	END IF;
END $$;
`

// Whether the row is of this run of the server.
const sinceStart = `started = pg_postmaster_start_time()`

// Whether a lock may be taken that nobody has, and one whose holder is dead; and whether that cannot
// be known, without and with the table. A time in the future is from before the clock was set back.
//
// After a failover, the row of a lock may be that of an earlier holder. If that lives, it releases
// the lock when it is connected, and the present holder takes it again. If it is dead, the present
// holder takes it after the length of grace, see retake, and others must not before that.
var (
	settled     = [2]string{"true", settledFor(grace)}
	longSettled = [2]string{"true", settledFor(2 * grace)}
	broken      = [2]string{"false", "NOT EXISTS (SELECT FROM {uptime} WHERE {since start})"}
)

func settledFor(d time.Duration) string {
	return fmt.Sprintf(`EXISTS (SELECT FROM {uptime} WHERE {since start}
		AND since NOT BETWEEN now() - interval '%d seconds' AND now() + interval '%[1]d seconds')`, d/time.Second)
}

// uptimeStatements are those of the table, see Store.resume.
type uptimeStatements struct{ usable, find, make, retake, still string }

func newUptimeStatements(replace func(string) string) uptimeStatements {
	return uptimeStatements{
		usable: `SELECT current_setting('transaction_read_only')::bool, coalesce(has_table_privilege(to_regclass($1), 'SELECT') AND has_table_privilege(to_regclass($1), 'INSERT')
			AND has_table_privilege(to_regclass($1), 'UPDATE') AND NOT row_security_active(to_regclass($1)), false)`,
		find: replace(`SELECT id FROM {uptime} WHERE {since start}`),
		make: replace(`INSERT INTO {uptime} AS before VALUES (true, $1, now(), pg_postmaster_start_time())
			ON CONFLICT (one) DO UPDATE SET id = excluded.id, since = excluded.since, started = excluded.started WHERE before.started <> excluded.started`),
		// A row that somebody else is about to change is left for the next time, and so is one
		// whose holder may live.
		retake: replace(`INSERT INTO {locks} (name, owner, turn)
			SELECT $1, $2, $3 WHERE {not durable} AND set_config('lock_timeout', '100ms', true) IS NOT NULL
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, turn = excluded.turn
				WHERE {locks}.owner = excluded.owner AND {locks}.turn <= excluded.turn
					OR {locks}.owner <> excluded.owner AND ` + settled[1] + ` AND pg_try_advisory_xact_lock_shared({locks}.owner)`),
		still: replace(`SELECT EXISTS (SELECT FROM {uptime} WHERE id = $1 AND {since start})`),
	}
}

// resume is called with each new connection of the session, and from time to time. It learns about
// the last break, and takes the locks of this process again that may be lost by it. It returns the
// id of uptime, 0 if there is no such table, and whether it has all of the locks.
func (s *Store) resume(ctx context.Context, conn *pgx.Conn, isNew bool) (id int64, all bool, err error) {
	var readOnly, usable bool
	err = conn.QueryRow(ctx, s.sql.uptime.usable, unprepared, s.sql.uptimeTable).Scan(&readOnly, &usable)
	switch {
	case err != nil:
		return 0, false, err
	case readOnly: // Locks are taken at another server, which must see that this process is alive.
		return 0, false, errReadOnly
	}
	for usable && id == 0 {
		err := conn.QueryRow(ctx, s.sql.uptime.find, unprepared).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			_, err = conn.Exec(ctx, s.sql.uptime.make, unprepared, random())
		}
		if err != nil {
			return 0, false, err
		}
	}
	if isNew {
		s.releaseReturned(ctx, conn)
	}
	all, err = s.retake(ctx, conn, id)
	return id, all, err
}

// releaseReturned releases what this process has released before, but holds again: a server that
// was promoted may not have got the release. Nobody else may, as this process lives.
func (s *Store) releaseReturned(ctx context.Context, conn *pgx.Conn) {
	if last, open := s.holds.others(); last > 0 {
		conn.Exec(ctx, s.sql.unlockOthers, unprepared, s.session.owner, last, open) // If that fails, the connection is lost again, or there are no locks.
	}
}

// retake takes the locks again that were taken when uptime had another id, and reports whether it
// has all of them.
func (s *Store) retake(ctx context.Context, conn *pgx.Conn, id int64) (all bool, err error) {
	lost, done := s.holds.lost(id)
	defer done()
	all = true
	for _, h := range lost {
		tag, err := conn.Exec(ctx, s.sql.uptime.retake, unprepared, []byte(h.name), s.session.owner, h.turn)
		switch {
		case err == nil && tag.RowsAffected() == 1:
			s.holds.retaken(h, id)
		case err == nil || sqlState(err) == "55P03":
			all = false
		default:
			return false, err
		}
	}
	return all, nil
}

// stillUp reports whether nothing can have taken back the lock since it was taken.
func (s *Store) stillUp(ctx context.Context, h *hold) (uptime bool) {
	if h.uptime == 0 {
		return true
	}
	err := s.run(ctx, reads, func(conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, s.sql.uptime.still, unprepared, h.uptime).Scan(&uptime)
	})
	return uptime && err == nil
}
