package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The tables. Sealed data does not compress. Room on each page lets most updates stay on it and
// leave the indexes alone, which is also why there is no index on saved.
const schema = `
CREATE TABLE IF NOT EXISTS {entries} (
	name    bytea PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 128),
	version bigint NOT NULL,
	saved   timestamptz NOT NULL,
	data    bytea NOT NULL
) WITH (fillfactor = 70, toast_tuple_target = 4080, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE {entries} ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS {locks} (
	name  bytea PRIMARY KEY,
	owner bigint NOT NULL,
	turn  bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
`

// The span of six hours in which an entry was saved, which four updates a day change at most, so
// that the others leave its index alone. Earlier versions do not know this column, and leave it
// as it is: an entry was saved in that span or later.
//
// Even an ALTER TABLE that changes nothing would wait for whoever builds the index, and the
// index for that.
const spansSchema = `
DO $$ BEGIN
	IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '{entries}'::regclass AND attname = 'saved_span') THEN
		ALTER TABLE {entries} ADD COLUMN IF NOT EXISTS saved_span integer NOT NULL DEFAULT 0;
	END IF;
END $$;
`

const idleSchema = `
CREATE INDEX IF NOT EXISTS {saved index} ON {entries} (saved_span, name);
`

// The same for a table that is in use.
const idleSchemaBeside = `CREATE INDEX CONCURRENTLY IF NOT EXISTS {saved index} ON {entries} (saved_span, name)`

// The traces of deleted entries. Earlier versions do not know this table, and this one works
// without it, so it can be created later.
const tracesSchema = `
CREATE TABLE IF NOT EXISTS {gone} (
	name bytea PRIMARY KEY,
	at   timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS {gone at} ON {gone} (at);
`

// The advisory locks of whoever changes tables, and builds an index.
const (
	migrationLock = 0x7374_6179_6175_7468
	indexLock     = 0x7374_6179 // and the number of the table
)

// Migrate creates the tables that do not exist yet, and adds to those of earlier versions what
// is new. If all is there, it changes nothing, and needs no right to create any. Many processes
// may call it at the same time, while others use the tables.
//
// To add to a table that is in use, Migrate needs to be its owner, and locks it for a moment;
// while it waits for that lock it delays others by a quarter of a second at a time, ten times at
// most. It builds an index while the table is in use, which takes some seconds per million
// entries; other processes do not wait for that. Whatever of this cannot be done now is left to
// the next Migrate: the store works without it, and Check reports it.
func (s *Store) Migrate(ctx context.Context) error {
	var there, traces, uptime, spans, indexed bool
	err := s.run(ctx, writes, func(conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, s.sql.migrated, unprepared, s.sql.entries, s.sql.locks, s.sql.gone, s.sql.uptimeTable).Scan(&there, &traces, &uptime, &spans, &indexed)
	})
	switch {
	case err == nil && !there:
		err = s.change(ctx, s.sql.create)
	case err == nil && !(traces && uptime): // An earlier version has migrated.
		if err = s.change(ctx, s.sql.createTraces+s.sql.createUptime); sqlState(err) == lacksRight {
			err = nil
		}
	}
	if err != nil {
		return problem(ctx, "migrate", "", err)
	}
	if there && !indexed {
		s.addIndex(ctx, spans)
	}
	return nil
}

// change changes the tables, in one transaction.
func (s *Store) change(ctx context.Context, statements string) error {
	return s.run(ctx, writes, func(conn *pgxpool.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, unprepared, int64(migrationLock)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, statements, pgx.QueryExecModeSimpleProtocol)
			return err
		})
	})
}

// addIndex adds what ListIdle needs to be fast to a table that is in use, as far as that can be
// done now. There are spans if the table has the column.
func (s *Store) addIndex(ctx context.Context, spans bool) {
	if !spans {
		// Whoever comes while this waits for the table waits behind it.
		if s.change(ctx, `SET LOCAL lock_timeout = '250ms'; `+s.sql.createSpans) != nil {
			return
		}
		s.noSpans.Store(0)
	}
	// The index is built outside of a transaction, by a connection without the pool's limits.
	conn, err := s.session.dial(ctx)
	if err != nil {
		return
	}
	defer hangUp(conn)
	var backend uint32
	if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, unprepared).Scan(&backend); err != nil || backend != conn.PgConn().PID() {
		return // A pooler would give the lock below to others.
	}
	// A transaction that stays open, that of a backup for instance, must not keep the program
	// from starting: the index waits for all that have begun.
	var mine bool
	err = conn.QueryRow(ctx, `SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '5s', false),
		coalesce(pg_try_advisory_lock($2::integer, to_regclass($1)::oid::integer), false)`, unprepared, s.sql.entries, indexLock).Scan(nil, nil, &mine)
	if err != nil || !mine {
		return
	}
	rows, err := conn.Query(ctx, s.sql.halfBuilt, unprepared, s.sql.entries)
	if err != nil {
		return
	}
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return
	}
	for _, index := range left {
		conn.Exec(ctx, `DROP INDEX CONCURRENTLY `+index, pgx.QueryExecModeSimpleProtocol)
	}
	conn.Exec(ctx, s.sql.createIdleBeside, pgx.QueryExecModeSimpleProtocol)
}
