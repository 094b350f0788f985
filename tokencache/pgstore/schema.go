package pgstore

import (
	"context"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var tableName = regexp.MustCompile(`^([a-z_][a-z0-9_]{0,55}\.)?[a-z_][a-z0-9_]{0,55}$`)

// The tables. Sealed data does not compress. Room on each page lets most updates stay on it and
// leave the index alone, which is also why there is no index on saved.
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

// The traces of deleted entries. Earlier versions do not know this table, and this one works
// without it, so it can be created later.
const tracesSchema = `
CREATE TABLE IF NOT EXISTS {gone} (
	name bytea PRIMARY KEY,
	at   timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS {gone at} ON {gone} (at);
`

// What is saved survives a crash of the server even if the default setting does not ensure
// that. Stronger settings, those that wait for replicas, stay.
const durable = `(SELECT set_config('synchronous_commit',
	CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)) IS NOT NULL`

// A lock need not be on disk by itself. What is done under it comes after it in the log, so
// once that is durable, the lock is too.
const notDurable = `(SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL`

// What is read has the form that pgx understands, whatever the setting of bytea_output.
const hex = `(SELECT set_config('bytea_output', 'hex', true)) IS NOT NULL`

// Row-level security makes existing rows look absent, without an error.
const secured = `coalesce(row_security_active(to_regclass($1)), false)`

// A process is alive while it holds the advisory lock on its own number, and dead if any other
// process can take that.
type statements struct {
	entries, locks, gone, create, createTraces string
	load, version, insert, update, delete      string
	traced, insertTraced, deleteTraced         string
	list, purge, purgeTraced                   string
	preflight, secured, check                  string
	probes                                     []string
	lock, unlock, orphans                      string
}

const insert = `INSERT INTO {entries} (name, data, version, saved)
			SELECT $1, $2, $3, now() WHERE {durable}
			ON CONFLICT (name) DO UPDATE SET saved = excluded.saved WHERE {entries}.version = excluded.version`

func newStatements(table string) statements {
	ident := pgx.Identifier(strings.Split(table, "."))
	beside := func(suffix string) pgx.Identifier {
		other := append(pgx.Identifier(nil), ident...)
		other[len(other)-1] += suffix
		return other
	}
	locks, gone := beside("_locks"), beside("_gone")
	unqualified := "unnest('{}'::text[]) unqualified"
	if len(ident) == 1 { // and is safe to quote
		unqualified = "unnest('{" + table + "}'::text[]) unqualified"
	}
	replace := strings.NewReplacer("{entries}", ident.Sanitize(), "{locks}", locks.Sanitize(),
		"{gone}", gone.Sanitize(), "{unqualified}", unqualified, "{gone at}", pgx.Identifier{gone[len(gone)-1] + "_at"}.Sanitize(),
		"{durable}", durable, "{not durable}", notDurable, "{hex}", hex, "{none}", strconv.Itoa(noVersion), "{any}", strconv.Itoa(anyVersion)).Replace
	return statements{
		entries:      ident.Sanitize(),
		locks:        locks.Sanitize(),
		gone:         gone.Sanitize(),
		create:       replace(schema + tracesSchema),
		createTraces: replace(tracesSchema),

		// Returns a row even if there is no entry: whether the server accepts writes is
		// part of the answer.
		load: replace(`SELECT data, version, current_setting('transaction_read_only')::bool
			FROM (SELECT) one LEFT JOIN {entries} ON name = $1 WHERE {hex}`),
		version: replace(`SELECT version FROM {entries} WHERE name = $1`),
		// Either may be sent once more because its answer was lost, and then writes
		// again what may be there already. To see that it is there would not be enough:
		// what no answer has confirmed may be on the primary alone.
		insert: replace(insert),
		update: replace(`UPDATE {entries} SET data = $2, version = $3, saved = now()
			WHERE name = $1 AND version IN ($4, $3) AND {durable}`),
		delete: replace(`WITH gone AS (DELETE FROM {entries} WHERE name = $1 AND version = $2 AND {durable} RETURNING 1)
			SELECT EXISTS (SELECT FROM gone), EXISTS (SELECT FROM {entries} WHERE name = $1)`),

		// The same with traces, which last for 31 days: tokencache.ErrNoTrace promises
		// 30. If the server may hide them, a trace that is not seen proves nothing.
		traced:       replace(`SELECT coalesce(row_security_active(to_regclass($2)), true) OR EXISTS (SELECT FROM {gone} WHERE name = $1)`),
		insertTraced: replace(`WITH trace AS (DELETE FROM {gone} WHERE name = $1) ` + insert),
		deleteTraced: replace(`WITH gone AS (DELETE FROM {entries} WHERE name = $1 AND version = $2 AND {durable} RETURNING 1),
			trace AS (INSERT INTO {gone} (name, at) SELECT $1, now()
				WHERE (EXISTS (SELECT FROM gone) OR NOT EXISTS (SELECT FROM {entries} WHERE name = $1)) AND {durable}
				ON CONFLICT (name) DO UPDATE SET at = excluded.at),
			old AS (DELETE FROM {gone} WHERE name IN (SELECT name FROM {gone}
				WHERE at < now() - interval '31 days' AND name <> $1 LIMIT 100 FOR UPDATE SKIP LOCKED))
			SELECT EXISTS (SELECT FROM gone), EXISTS (SELECT FROM {entries} WHERE name = $1)`),

		list: replace(`SELECT name FROM {entries} WHERE name > $1 AND {hex} ORDER BY name LIMIT $2`),
		purge: replace(`WITH page AS (SELECT name FROM {entries} WHERE name > $1 AND {hex} ORDER BY name LIMIT $2),
			gone AS (DELETE FROM {entries} USING page WHERE {entries}.name = page.name AND saved < $3 RETURNING 1)
			SELECT (SELECT name FROM page ORDER BY name DESC LIMIT 1), (SELECT count(*) FROM gone)`),
		purgeTraced: replace(`WITH page AS (SELECT name FROM {entries} WHERE name > $1 AND {hex} ORDER BY name LIMIT $2),
			gone AS (DELETE FROM {entries} USING page WHERE {entries}.name = page.name AND saved < $3 RETURNING page.name),
			traces AS (INSERT INTO {gone} (name, at) SELECT name, now() FROM gone ON CONFLICT (name) DO UPDATE SET at = excluded.at)
			SELECT (SELECT name FROM page ORDER BY name DESC LIMIT 1), (SELECT count(*) FROM gone)`),
		preflight: `SELECT current_setting('transaction_read_only')::bool,
			has_table_privilege($1, 'INSERT') AND has_table_privilege($1, 'UPDATE') AND has_table_privilege($2, 'INSERT'), ` + secured,
		secured: `SELECT ` + secured,
		// Whether there are traces, and the schemas in which others would look for the
		// entries.
		check: replace(`SELECT coalesce(bool_and(has_table_privilege(to_regclass($1), r)), false) AND NOT coalesce(row_security_active(to_regclass($1)), true),
				array(SELECT nspname::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace, {unqualified}
					WHERE relname = unqualified AND relkind IN ('r', 'p') AND pg_class.oid <> to_regclass($2) AND has_schema_privilege(n.oid, 'USAGE'))
			FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) r`),
		probes: []string{
			replace(`INSERT INTO {entries} (name, data, version, saved) VALUES ($1, '', 1, now()) ON CONFLICT DO NOTHING`),
			replace(`UPDATE {entries} SET saved = now() WHERE name = $1`),
			replace(`DELETE FROM {entries} WHERE name = $1`),
		},

		// Takes the lock if this process is alive, the entry is at $5, if that is a
		// version, and nobody has the lock. The lock may also be left over from an
		// earlier turn of this process whose unlock was lost, or be of this turn, if
		// the answer was lost; or its owner is $4 and dead: then the row changes hands,
		// so that it is never forgotten that the dead process had something in
		// progress. Returns whether it worked; whether this process is dead; whether
		// the entry has changed; and otherwise who holds the lock, and whether that
		// process is dead. While others have the lock, a check must only read: ON
		// CONFLICT alone would lock the row, and unlock would have to wait for all
		// checks.
		lock: replace(`WITH entry AS MATERIALIZED (
				SELECT $5::bigint <> {any} AND $5 <> coalesce((SELECT version FROM {entries} WHERE name = $1), {none}) AS changed),
			won AS (
				INSERT INTO {locks} (name, owner, turn)
				SELECT $1, $2, $3 FROM entry WHERE NOT changed AND NOT pg_try_advisory_xact_lock_shared($2) AND {not durable}
					AND NOT EXISTS (SELECT FROM {locks} WHERE name = $1 AND owner <> $2 AND NOT (owner = $4 AND pg_try_advisory_xact_lock_shared($4)))
				ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, turn = excluded.turn
					WHERE {locks}.owner = excluded.owner AND {locks}.turn <= excluded.turn
						OR {locks}.owner = $4 AND pg_try_advisory_xact_lock_shared($4)
				RETURNING 1)
			SELECT EXISTS (SELECT FROM won), pg_try_advisory_xact_lock_shared($2), changed, holder.owner, holder.dead
			FROM entry LEFT JOIN (
				SELECT owner, pg_try_advisory_xact_lock_shared(owner) AS dead FROM {locks} WHERE name = $1) holder ON true`),
		unlock: replace(`DELETE FROM {locks} WHERE name = $1 AND owner = $2 AND turn = $3 AND {not durable}`),

		// Returns whether the server refuses writes, whether this process is dead, and
		// the locks of processes that are.
		orphans: replace(`SELECT current_setting('transaction_read_only')::bool, pg_try_advisory_xact_lock_shared($1), orphan.name, orphan.owner
			FROM (SELECT) one LEFT JOIN (
				SELECT name, owner FROM {locks} WHERE owner <> $1 AND {hex} AND pg_try_advisory_xact_lock_shared(owner)) orphan ON true`),
	}
}

// migrationLock is the advisory lock that one process at a time holds to migrate.
const migrationLock = 0x7374_6179_6175_7468

// Migrate creates the tables that do not exist yet. If all exist, it changes nothing, and needs
// no right to create any. Many processes may call it at the same time.
func (s *Store) Migrate(ctx context.Context) error {
	return s.do(ctx, writes, "migrate", "", func(conn *pgxpool.Conn) error {
		var there, traces bool
		err := conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL, to_regclass($3) IS NOT NULL`,
			unprepared, s.sql.entries, s.sql.locks, s.sql.gone).Scan(&there, &traces)
		if err != nil || there && traces {
			return err
		}
		create := s.sql.create
		if there { // An earlier version has migrated.
			create = s.sql.createTraces
		}
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, unprepared, int64(migrationLock)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, create, pgx.QueryExecModeSimpleProtocol)
			return err
		})
		if there && sqlState(err) == lacksRight {
			err = nil // The store works without traces, and Check reports that.
		}
		return err
	})
}
