package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A refresh writes its lock and its journal without a wait for the disk, so a crash of the server,
// or a failover, can take both back while the provider answers. Others must not take the lock then.
// So a table that is not logged has one row, which PostgreSQL removes whenever it may have lost
// what was not on the disk. The first process that is connected again puts it back, with the time;
// no process takes a lock that nobody has until the length of grace has passed since then; and
// meanwhile those that live take theirs again. Their journal is gone: it would have told what to do
// if they died.
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
		INSERT INTO {uptime} VALUES (true, 1, '-infinity', pg_postmaster_start_time());
	END IF;
END $$;
`

// Whether the row is of this run of the server.
const sinceStart = `started = pg_postmaster_start_time()`

// Whether a lock that nobody has may be taken, and whether that cannot be known, without and with
// the table. A time in the future is from before the clock was set back.
var (
	settled = [2]string{"true", fmt.Sprintf(`EXISTS (SELECT FROM {uptime} WHERE {since start}
		AND (since < now() - interval '%d seconds' OR since > now() + interval '1 minute'))`, grace/1e9)}
	broken = [2]string{"false", "NOT EXISTS (SELECT FROM {uptime} WHERE {since start})"}
)

// uptimeStatements are those of the table, see Store.resume.
type uptimeStatements struct{ usable, find, make, retake, still string }

func newUptimeStatements(replace func(string) string) uptimeStatements {
	return uptimeStatements{
		usable: `SELECT current_setting('transaction_read_only')::bool, coalesce(has_table_privilege(to_regclass($1), 'SELECT') AND has_table_privilege(to_regclass($1), 'INSERT')
			AND has_table_privilege(to_regclass($1), 'UPDATE') AND NOT row_security_active(to_regclass($1)), false)`,
		find: replace(`SELECT id FROM {uptime} WHERE {since start}`),
		make: replace(`INSERT INTO {uptime} AS before VALUES (true, $1, now(), pg_postmaster_start_time())
			ON CONFLICT (one) DO UPDATE SET id = excluded.id, since = excluded.since, started = excluded.started WHERE before.started <> excluded.started`),
		retake: replace(`INSERT INTO {locks} (name, owner, turn) SELECT name, $2, turn FROM unnest($1::bytea[], $3::bigint[]) lost (name, turn) ORDER BY name
			ON CONFLICT (name) DO UPDATE SET turn = excluded.turn WHERE {locks}.owner = excluded.owner AND {locks}.turn = excluded.turn RETURNING turn`),
		still: replace(`SELECT EXISTS (SELECT FROM {uptime} WHERE id = $1 AND {since start})`),
	}
}

// resume is called with each new connection of the session, and from time to time. It learns about
// the last break, and takes the locks of this process again that may be lost by it. It returns the
// id of uptime; 0: there is no such table.
func (s *Store) resume(ctx context.Context, conn *pgx.Conn, isNew bool) (id int64, err error) {
	var readOnly, usable bool
	err = conn.QueryRow(ctx, s.sql.uptime.usable, unprepared, s.sql.uptimeTable).Scan(&readOnly, &usable)
	switch {
	case err != nil:
		return 0, err
	case readOnly: // Locks are taken at another server, which must see that this process is alive.
		return 0, errReadOnly
	}
	for usable && id == 0 {
		err := conn.QueryRow(ctx, s.sql.uptime.find, unprepared).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			_, err = conn.Exec(ctx, s.sql.uptime.make, unprepared, random())
		}
		if err != nil {
			return 0, err
		}
	}
	if isNew {
		s.releaseReturned(ctx, conn)
	}
	return id, s.retake(ctx, conn, id)
}

// releaseReturned releases what this process has released before, but holds again: a server that
// was promoted may not have got the release. Nobody else may, as this process lives.
func (s *Store) releaseReturned(ctx context.Context, conn *pgx.Conn) {
	if last, open := s.holds.others(); last > 0 {
		conn.Exec(ctx, s.sql.unlockOthers, unprepared, s.session.owner, last, open) // If that fails, the connection is lost again, or there are no locks.
	}
}

// retake takes the locks again that were taken when uptime had another id. What another process
// holds is left for the next time: that may have to release it, see releaseReturned.
func (s *Store) retake(ctx context.Context, conn *pgx.Conn, id int64) error {
	names, turns, retaken := s.holds.lost(id)
	var again []int64
	defer func() { retaken(again) }()
	if len(turns) == 0 {
		return nil
	}
	rows, err := conn.Query(ctx, s.sql.uptime.retake, unprepared, names, s.session.owner, turns)
	if err == nil {
		again, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	return err
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
