package pgstore

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

var tableName = regexp.MustCompile(`^([a-z_][a-z0-9_]{0,55}\.)?[a-z_][a-z0-9_]{0,55}$`)

// What is saved survives a crash of the server even if the default setting does not ensure
// that. Stronger settings, those that wait for replicas, stay.
const durable = `(SELECT set_config('synchronous_commit',
	CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)) IS NOT NULL`

// A lock need not be on disk by itself. What is done under it comes after it in the log, so
// once that is durable, the lock is too.
const notDurable = `(SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL`

// A journal need not be on disk, see uptime.go. But where what is saved has to be at a replica,
// it must be known before the refresh token is spent that this works.
const journaled = `(SELECT set_config('synchronous_commit', CASE WHEN current_setting('synchronous_standby_names') = '' THEN 'off'
	WHEN current_setting('synchronous_commit') = 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)) IS NOT NULL`

// What is read has the form that pgx understands, whatever the setting of bytea_output.
const hex = `(SELECT set_config('bytea_output', 'hex', true)) IS NOT NULL`

// Row-level security makes existing rows look absent, without an error.
const secured = `coalesce(row_security_active(to_regclass($1)), false)`

// A process is alive while it holds the advisory lock on its own number, and dead if any other
// process can take that.
type statements struct {
	entries, locks, gone, uptimeTable           string
	migrated, create, createTraces, createSpans string
	createUptime, createIdleBeside, halfBuilt   string
	load, version, delete                       string
	saving                                      [2]saving // without the column saved_span, and with it
	traced, deleteTraced                        string
	list, idle, idlest, purge, purgeTraced      string
	preflight, secured, check, indexes          string
	probes                                      []string
	lock                                        [2]string // without the table uptime, and with it
	unlock, unlockOthers                        string
	orphans                                     [2]string // as lock
	uptime                                      uptimeStatements
}

// saving are the statements that save an entry.
type saving struct {
	insert, insertTraced, update, end string
	quickBegin, begin                 [2]string // without the table uptime, and with it
}

// newSaving returns them with or without the column saved_span.
func newSaving(spans bool) saving {
	column, span, set, excluded := "", "", "", ""
	if spans {
		column, span, set, excluded = ", saved_span", ", {this span}", ", saved_span = {this span}", ", saved_span = excluded.saved_span"
	}
	// Either may be sent once more because its answer was lost, and then writes again what
	// may be there already. To see that it is there would not be enough: what no answer has
	// confirmed may be on the primary alone.
	insert := `INSERT INTO {entries} (name, data, version, saved` + column + `)
			SELECT $1, $2, $3, now()` + span + ` WHERE {durable}
			ON CONFLICT (name) DO UPDATE SET saved = excluded.saved` + excluded + ` WHERE {entries}.version = excluded.version`
	s := saving{
		insert:       insert,
		insertTraced: `WITH trace AS (DELETE FROM {gone} WHERE name = $1) ` + insert,
		update: `UPDATE {entries} SET data = $2, version = $3, saved = now()` + set + `
			WHERE name = $1 AND version IN ($4, $3) AND {durable}`,

		end: `WITH saved AS (UPDATE {entries} SET data = $2, version = $3, saved = now()` + set + `
				WHERE name = $1 AND version IN ($4, $3) AND {durable} RETURNING 1),
			released AS (DELETE FROM {locks} WHERE name = $1 AND owner = $5 AND turn = $6 AND EXISTS (SELECT FROM saved) RETURNING 1)
			SELECT EXISTS (SELECT FROM saved), EXISTS (SELECT FROM released)`,
	}
	// The update with the lock. What the quick one finds locked, or changed, is for the other.
	for i, commit := range []string{"{durable}", "{journal}"} {
		s.quickBegin[i] = `WITH entry AS MATERIALIZED (SELECT FROM {entries} WHERE name = $1 AND version = $4 AND ` + inTable("$7") + `),
			won AS (INSERT INTO {locks} (name, owner, turn)
				SELECT $1, $2, $3 FROM entry WHERE NOT pg_try_advisory_xact_lock_shared($2) AND ` + settled[i] + ` ON CONFLICT DO NOTHING RETURNING 1),
			written AS (UPDATE {entries} SET data = $5, version = $6, saved = now()` + set + `
				WHERE name = $1 AND version = $4 AND EXISTS (SELECT FROM won) AND ` + commit + ` RETURNING 1)
			SELECT EXISTS (SELECT FROM won), EXISTS (SELECT FROM written), NOT EXISTS (SELECT FROM entry)`
		s.begin[i] = taking(i, "coalesce((SELECT version FROM {entries} WHERE name = $1), {none}) NOT IN ($5, $7)", "true", `,
			written AS (UPDATE {entries} SET data = $6, version = $7, saved = now()`+set+`
				WHERE name = $1 AND version IN ($5, $7) AND EXISTS (SELECT FROM won) AND `+inTable("$8")+` AND `+commit+` RETURNING 1)`, ", EXISTS (SELECT FROM written)")
	}
	return s
}

// inTable says whether the entries are in that table, if it is known.
func inTable(table string) string {
	return `(` + table + `::oid = 0 OR ` + table + ` = to_regclass('{entries}')::oid)`
}

// taking returns a statement that takes the lock if this process is alive, the entry has not
// changed, and nobody has the lock. The lock may also be left over from an earlier turn of this
// process whose unlock was lost, or be of this turn, if the answer was lost; or its owner is $4 and
// dead: then the row changes hands, so that it is never forgotten that the dead process had
// something in progress. Returns whether it worked; whether this process is dead; whether the entry
// has changed; and otherwise who holds the lock, and whether that process is dead. While others
// have the lock, a check must only read: ON CONFLICT alone would lock the row, and unlock would
// have to wait for all checks. A lock that nobody has is not taken while a crash of the server is
// too recent, see uptime.go; and if the row is missing there, this process does not know about the
// last one, which is as if it were dead.
func taking(table int, changed, commit, with, result string) string {
	return `WITH entry AS MATERIALIZED (SELECT ` + changed + ` AS changed),
			won AS (
				INSERT INTO {locks} (name, owner, turn)
				SELECT $1, $2, $3 FROM entry WHERE NOT changed AND NOT pg_try_advisory_xact_lock_shared($2) AND ` + commit + ` AND ` + settled[table] + `
					AND ($4::bigint = 0 OR ` + longSettled[table] + `)
					AND NOT EXISTS (SELECT FROM {locks} WHERE name = $1 AND owner <> $2 AND NOT (owner = $4 AND pg_try_advisory_xact_lock_shared($4)))
				ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, turn = excluded.turn
					WHERE {locks}.owner = excluded.owner AND {locks}.turn <= excluded.turn
						OR {locks}.owner = $4 AND pg_try_advisory_xact_lock_shared($4)
				RETURNING 1)` + with + `
			SELECT EXISTS (SELECT FROM won), pg_try_advisory_xact_lock_shared($2) OR ` + broken[table] + `, changed, holder.owner, holder.dead` + result + `
			FROM entry LEFT JOIN (
				SELECT owner, pg_try_advisory_xact_lock_shared(owner) AS dead FROM {locks} WHERE name = $1) holder ON true`
}

// thisSpan is the span of an entry that is saved now: six hours, counted since 1970 whatever the
// time zone of the session.
const thisSpan = `floor(extract(epoch FROM now()) / 21600)::integer`

// idle says whether an entry was last saved more than $3 microseconds ago, or seems to have been
// saved in the future.
const idle = `(saved < now() - $3::bigint * interval '1 microsecond' OR saved > now() + interval '1 day')`

// indexes finds the indexes that begin with saved_span.
const indexes = `pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] AND attname = 'saved_span' WHERE indrelid = to_regclass($1)`

func newStatements(table string) statements {
	ident := pgx.Identifier(strings.Split(table, "."))
	beside := func(suffix string) pgx.Identifier {
		other := append(pgx.Identifier(nil), ident...)
		other[len(other)-1] += suffix
		return other
	}
	locks, gone, uptime := beside("_locks"), beside("_gone"), beside("_uptime")
	unqualified := "unnest('{}'::text[]) unqualified"
	if len(ident) == 1 { // and is safe to quote
		unqualified = "unnest('{" + table + "}'::text[]) unqualified"
	}
	replace := strings.NewReplacer("{this span}", thisSpan, "{is idle}", idle, "{indexes}", indexes, "{indexes of $2}", strings.ReplaceAll(indexes, "$1", "$2"),
		"{saved index}", pgx.Identifier{ident[len(ident)-1] + "_saved"}.Sanitize(), "{entries}", ident.Sanitize(), "{locks}", locks.Sanitize(),
		"{gone}", gone.Sanitize(), "{uptime}", uptime.Sanitize(), "{since start}", sinceStart, "{unqualified}", unqualified, "{gone at}", pgx.Identifier{gone[len(gone)-1] + "_at"}.Sanitize(),
		"{durable}", durable, "{not durable}", notDurable, "{journal}", journaled, "{hex}", hex, "{none}", strconv.Itoa(noVersion), "{any}", strconv.Itoa(anyVersion)).Replace
	both := func(s [2]string) [2]string { return [2]string{replace(s[0]), replace(s[1])} }
	replaced := func(s saving) saving {
		return saving{replace(s.insert), replace(s.insertTraced), replace(s.update), replace(s.end), both(s.quickBegin), both(s.begin)}
	}
	lock := func(table int) string {
		return taking(table, "$5::bigint <> {any} AND $5 <> coalesce((SELECT version FROM {entries} WHERE name = $1), {none})", "{not durable}", "", "")
	}
	// Returns whether the server refuses writes, whether this process is dead, and the locks of
	// processes that are, unless their present holder may take them again, see uptime.go.
	orphans := func(table int) string {
		return `SELECT current_setting('transaction_read_only')::bool, pg_try_advisory_xact_lock_shared($1), orphan.name, orphan.owner
			FROM (SELECT) one LEFT JOIN (
				SELECT name, owner FROM {locks} WHERE owner <> $1 AND {hex} AND ` + longSettled[table] + ` AND pg_try_advisory_xact_lock_shared(owner)) orphan ON true`
	}
	return statements{
		entries:      ident.Sanitize(),
		locks:        locks.Sanitize(),
		gone:         gone.Sanitize(),
		uptimeTable:  uptime.Sanitize(),
		create:       replace(schema + spansSchema + idleSchema + tracesSchema + uptimeSchema),
		createTraces: replace(tracesSchema),
		createSpans:  replace(spansSchema),

		createUptime: replace(uptimeSchema),
		migrated: replace(`SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL, to_regclass($3) IS NOT NULL, to_regclass($4) IS NOT NULL,
			EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'saved_span'),
			EXISTS (SELECT FROM {indexes} AND indisvalid)`),
		createIdleBeside: replace(idleSchemaBeside),
		halfBuilt:        replace(`SELECT indexrelid::regclass::text FROM {indexes} AND NOT indisvalid`),

		// Returns a row even if there is no entry: whether the server accepts writes is
		// part of the answer, and so is the table, see whereabouts.
		load: replace(`SELECT data, version, current_setting('transaction_read_only')::bool, to_regclass($2)::oid
			FROM (SELECT) one LEFT JOIN {entries} ON name = $1 WHERE {hex}`),
		version: replace(`SELECT version FROM {entries} WHERE name = $1`),
		saving:  [2]saving{replaced(newSaving(false)), replaced(newSaving(true))},
		delete: replace(`WITH gone AS (DELETE FROM {entries} WHERE name = $1 AND version = $2 AND {durable} RETURNING 1)
			SELECT EXISTS (SELECT FROM gone), EXISTS (SELECT FROM {entries} WHERE name = $1)`),

		// The same with traces, which last for 31 days: tokencache.ErrNoTrace promises
		// 30. If the server may hide them, a trace that is not seen proves nothing.
		traced: replace(`SELECT coalesce(row_security_active(to_regclass($2)), true) OR EXISTS (SELECT FROM {gone} WHERE name = $1)`),
		deleteTraced: replace(`WITH gone AS (DELETE FROM {entries} WHERE name = $1 AND version = $2 AND {durable} RETURNING 1),
			trace AS (INSERT INTO {gone} (name, at) SELECT $1, now()
				WHERE (EXISTS (SELECT FROM gone) OR NOT EXISTS (SELECT FROM {entries} WHERE name = $1)) AND {durable}
				ON CONFLICT (name) DO UPDATE SET at = excluded.at),
			old AS (DELETE FROM {gone} WHERE name IN (SELECT name FROM {gone}
				WHERE at < now() - interval '31 days' AND name <> $1 LIMIT 100 FOR UPDATE SKIP LOCKED))
			SELECT EXISTS (SELECT FROM gone), EXISTS (SELECT FROM {entries} WHERE name = $1)`),

		list: replace(`SELECT name FROM {entries} WHERE name > $1 AND {hex} ORDER BY name LIMIT $2`),
		// Pages of the index, and of all entries where there is no index. What of a page is
		// idle is told beside the names, so that no statement takes long.
		idlest: replace(`SELECT name, saved_span, {is idle} FROM {entries}
			WHERE (saved_span, name) > ($1, $2) AND saved_span <= $4 AND {hex} ORDER BY saved_span, name LIMIT $5`),
		idle: replace(`SELECT name, $1::integer, {is idle} FROM {entries} WHERE name > $2 AND $1 <= $4::integer AND {hex} ORDER BY name LIMIT $5`),
		// Whether there is an index, the span of the last entries that may be idle, and this one.
		indexes: replace(`SELECT EXISTS (SELECT FROM {indexes} AND indisvalid),
			floor(extract(epoch FROM now() - $2::bigint * interval '1 microsecond') / 21600)::integer, {this span}`),
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
		// Whether there are traces, the schemas in which others would look for the
		// entries, and whether there is an index of what is idle.
		check: replace(`SELECT coalesce(bool_and(has_table_privilege(to_regclass($1), r)), false) AND NOT coalesce(row_security_active(to_regclass($1)), true),
				array(SELECT nspname::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace, {unqualified}
					WHERE relname = unqualified AND relkind IN ('r', 'p') AND pg_class.oid <> to_regclass($2) AND has_schema_privilege(n.oid, 'USAGE')),
				EXISTS (SELECT FROM {indexes of $2} AND indisvalid)
			FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) r`),
		probes: []string{
			replace(`INSERT INTO {entries} (name, data, version, saved) VALUES ($1, '', 1, now()) ON CONFLICT DO NOTHING`),
			replace(`UPDATE {entries} SET saved = now() WHERE name = $1`),
			replace(`DELETE FROM {entries} WHERE name = $1`),
		},

		lock:         both([2]string{lock(0), lock(1)}),
		unlock:       replace(`DELETE FROM {locks} WHERE name = $1 AND owner = $2 AND turn = $3 AND {not durable}`),
		unlockOthers: replace(`DELETE FROM {locks} WHERE owner = $1 AND turn <= $2 AND turn <> ALL($3::bigint[]) AND {not durable}`),

		orphans: both([2]string{orphans(0), orphans(1)}),

		uptime: newUptimeStatements(replace),
	}
}
