/*
Package pgstore keeps OAuth logins in PostgreSQL, for services that run as several
replicas and act for many users. It is the right store for them: a refresh token is not
cache data, and a database is made for data that must not be lost.

	store, err := pgstore.Open(pgstore.Config{DSN: dsn})
	...
	err = store.Migrate(ctx)
	...
	cache, err := tokencache.New(store, tokencache.KeyBytes(key))

The database sees sealed entries under hashed names. The key stays with the service:
in a file, or from a key management service; see [tokencache.KeySource].

# Tables and rights

[Store.Migrate] creates four tables. Entries have a name, a version, the time at which
they were last saved, the number of the six hours in which that was, and the sealed data. The
table whose name ends in _locks has a row for each lock that is held. The one in _gone keeps the
names of deleted entries for 31 days, so that entries which vanish in another way, because an empty
database has replaced this one for instance, are not taken for logouts ([tokencache.ErrNoTrace]).
In the one in _uptime, which is not logged, a row says since when the server has lost nothing, see
Locks. Earlier versions do not know the last two, and the store works without them; [Store.Check]
reports that they are missing. While earlier versions run beside this one, a login that they forget
can come back, and they do not wait for the others after a crash of the server. Nor do processes
whose role, or that of [Config.SessionDSN], has no right to _uptime.

The six hours are new too, the column saved_span with an index: by them [Store.ListIdle] finds the
logins that nobody uses without reading the others. Four updates a day change the column at most;
all others stay heap-only (HOT). Migrate adds it to a table that is in use: the column takes a lock
on the table for a moment, and the index is built concurrently. If a backup or another long
transaction is in the way, Migrate gives up after some seconds, and the next one tries again. The
store works meanwhile, and ListIdle reads all entries.

The role that migrates must own the tables, and have CREATE on the schema. The role of the service needs
no more than

	GRANT USAGE ON SCHEMA logins TO app;
	GRANT SELECT, INSERT, UPDATE, DELETE ON logins.stayauth_entries,
		logins.stayauth_entries_locks, logins.stayauth_entries_gone TO app;
	GRANT SELECT, INSERT, UPDATE ON logins.stayauth_entries_uptime TO app;

with Config.Table "logins.stayauth_entries". It may still call Migrate, which changes
nothing if the tables are there.

# Locks

A lock must end with its process, and must not end while its process is alive, even if the
network cuts its connections or the server is restarted in the middle of a refresh.
So each process has one connection of its own which shows that it is alive, by an
advisory lock on a random number, and the rows of the locks say whose they are. Others
take the locks of a process only when it has seemed dead for three seconds, at every
check. A process that reconnects sooner keeps its locks, and so does one that is paused,
because the kernel keeps its connection.

A refresh that was in progress when its process died is not forgotten: the rows stay until
another process has taken and released the locks, and [Store.Interrupted] returns their
names. A service that runs Pool.KeepFresh makes up for the refreshes that its dead replicas
had begun, some five seconds later, while most providers still accept the refresh token again.

That is one connection for each process besides the pool, however many locks it holds,
and waiting needs none. If the server has no room for it, the pool closes connections
that it does not use. A machine that loses power is noticed by TCP keepalives after 11
seconds, and the three seconds follow.

A refresh asks the server two or three times. It reads the entry, unless the same process seems to
have renewed the login last; it takes the lock and saves the journal, in one transaction; and it
saves the tokens and releases the lock, in another. Only the last one waits for the disk. So a crash
of the server, or a failover to a standby that lags, can take back the lock and the journal while
the provider answers. The processes that live take their locks again as soon as they are connected;
nobody takes a lock that is free until three seconds after the first has come back, also after a
restart, or that of a dead process until six; and the tokens are saved as if nothing had happened.
A journal that is lost matters only if its process dies as well, or gets no answer: nobody makes
up for that refresh, and the error of the next one does not say that one was interrupted.

With synchronous_standby_names the journal waits as well, as synchronous_commit says: before the
refresh token is spent, it must be known that the standbys can save the next one.

# Retries

A statement is sent once more if its connection was lost; if the server no longer accepts
writes, which after a switchover means that the primary is elsewhere, where a DSN with
several hosts and target_session_attrs=read-write finds it, also if the machine of the former
primary does not answer at all; and for a second or two if
the server has rolled it back for a transient reason: a conflict under serializable
isolation, a deadlock, lock_timeout, statement_timeout. Writes that hang leave one
connection of the pool to reads. Row-level security that hides rows is an error, and
never taken for "logged out": where it is on, an entry that is not found is created, looked
for, and rolled back.

# PgBouncer

A pooler in transaction mode may stand between the pool and the server: through it, statements
leave nothing behind on a connection. A connection to the server itself, which tells so by the
number of its process, prepares the statements of a refresh, because planning them takes longer
than carrying them out. The connection that shows that the process is alive must bypass the
pooler: set [Config.SessionDSN] to the address of the server. If it does not, Lock notices and
returns an error that says so. After an outage, PgBouncer refuses statements for another
server_login_retry, which is 15 seconds by default.

# Guaranteed

  - When Save returns nil, the data is in the write-ahead log on disk, even if
    synchronous_commit is off, unless the server runs with fsync off. With synchronous
    replicas it is on them too, as the setting says: if somebody cancels the wait for
    them, Save fails, unless the pool is the program's own.
  - Save and Delete compare and swap, in one statement. What a process saves late,
    after it was cut off and lost its lock, is refused if anything was saved meanwhile.
  - All methods return when ctx is done. Errors say what to do and hold no password.

# Not guaranteed

  - A login whose process is cut off for more than three seconds while the provider
    answers it: the next process finds the journal entry and presents the same refresh
    token again. Most providers accept that for some seconds.
  - With Config.Pool, a wait for a synchronous replica that somebody cancels: the server
    only sends a warning, to the pool's own OnNotice.
  - What was confirmed last, after a failover to a replica that is not synchronous: the newest
    refresh token, so that a spent one comes back. A process that has a newer token in memory uses that; any other
    presents the spent one, and a strict provider ends the login. The error names this as a
    possible cause if the provider says that the token was used before, if a refresh seems to
    have been interrupted, or if the process has the newer token. A lock that comes back
    although it was released is released once more by its holder when that reconnects.
  - Logins, if the tables are emptied: processes that run Pool.KeepFresh put back what they
    have in memory, within some seconds, and requests at other replicas wait for that. A
    login that is in no memory is lost, and a replica that has none at all in memory says
    that the user has to log in.

# Backups and clones

A refresh token that is rotated may be spent once, so a database that is restored or cloned must
not be used without a decision, see package tokencache. The Store knows its [Store.Place]: the
number that initdb gave the server, and those of the database and the table. Restarts and
replicas that are promoted keep them; pg_restore, CREATE DATABASE with a template, a copy in
another schema and pg_upgrade do not. After the last, and after a move by logical replication,
nothing is renewed before somebody has called [tokencache.Cache.Adopt], once; meanwhile access
tokens are served as long as they are good. With a [Config.Name] the name alone counts, so set
one where a failover may lead to a server with another number, as a managed service may.

To restore a dump, in place or elsewhere:

	createdb -T template0 logins
	pg_restore -d logins logins.dump

start the service, with another Config.Name if it has one, such as "production-2", and adopt what
is in it, by a command of the service with the same store and key, as the example does. A base
backup with its log, or a snapshot of the disk, looks like the server itself and is noticed only
by another Name than the one with which the records were saved: so set a Name from the start.

With pg_restore --clean, replicas that run and have no Name notice when they next read an entry or
begin a refresh. That the database was replaced, replicas notice when they connect to it, or within
a minute, if a pooler connects for them.
Rows that are loaded into the existing table, by pg_restore --data-only or COPY, look like its
own. The number of the server is read by pg_control_system, which every role may call; where that
right was taken away, only a Name helps.

For a staging environment that is cloned from production, set another Name there, or make it by
pg_dump. Its service spends nothing of what it has got. To remove that, call
[tokencache.Cache.Discard] there; production notices nothing of it.

What a backup is worth depends on the provider. If it rotates refresh tokens, those of the
backup are spent wherever a login was renewed since, and a strict provider ends such a login
when it sees one; the error says that the login came from a backup. After an hour or a day that
is true of nearly all logins in use. A standby, which has every token, is worth more.

# Replacing the key

While a service is deployed, old and new replicas run side by side, and any deployment may
have to be undone. So with keys from [tokencache.KeyBytes] each step is a deployment of
its own, of all replicas:

 1. KeyBytes(old, new), so that all can open what the new key will seal;
 2. KeyBytes(new, old), so that the new key seals;
 3. the remaining entries are sealed anew, once, as the example does;
 4. KeyBytes(new).

Without the first step, old replicas find entries that they cannot open: they return an
error that says so, and no login is lost. With a [tokencache.KeyRotator], such as a key file that all
processes share, [tokencache.Cache.Rekey] does all of it.

# Removing users

The name of an entry is a hash of its [tokencache.Key]. A program that knows the key
deletes the entry with [tokencache.Cache.Delete], or ends the login with Source.Logout. If
an account may have entries for other audiences, [tokencache.Cache.List] finds them.
[Store.Purge] removes abandoned entries.

# Metrics

Embed the Store in a type of your own that measures the methods you care about, as the
example shows. For single statements and connections, use a pgx tracer in the
configuration of [Config.Pool], and Stat of that pool.

# TLS and limits

The DSN says it all: sslmode=verify-full and sslrootcert for TLS, pool_max_conns for
the number of connections. Without sslmode, pgx falls back to a connection that is not
encrypted; [Store.Check] reports that, and that the server does not sync its files. A
replica needs few connections: a refresh takes two to five short statements, of which one waits for
the disk, and no connection while the provider is asked.
PostgreSQL 14 or later.
*/
package pgstore
