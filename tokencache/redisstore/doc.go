/*
Package redisstore keeps OAuth logins in Redis, or Valkey, for services that run as
several replicas and have no database. If there is one, prefer package pgstore: a
refresh token is not cache data.

	store, err := redisstore.Open(redisstore.Config{URL: "rediss://app:password@redis.internal:6379/0"})
	...
	cache, err := tokencache.New(store, tokencache.KeyBytes(key))

The server sees sealed entries under hashed names. The key stays with the service; see
[tokencache.KeySource]. Package pgstore describes how it is replaced.

# The server must be set up for it

By default Redis forgets: when it crashes, what it confirmed in the last second, and when
its memory is full, anything at all. Keep logins on a server with

	appendonly yes
	appendfsync always            # else nil from Save does not mean "on the disk"
	maxmemory-policy noeviction   # else a login can vanish

[Store.Check] reports settings that differ, and so does the log before the first refresh.

What it forgets all the same, a process that has the login in memory puts back, within
some seconds if it runs Pool.KeepFresh or Source.KeepFresh. Requests at other replicas
wait for that. For this the Store keeps two things. Delete leaves an empty key of its own
for 31 days, so that an entry which was flushed, or which an empty replica does not have,
is not taken for a logout ([tokencache.ErrNoTrace]). And an index names all entries, so
that one which was evicted, or removed by hand, is not taken for a login that never was
([tokencache.LostError]): if nobody has put it back after half a minute, the user is told
to log in, and why. Save and Delete change the index in the same step. It is spread over
the slots of a cluster, and takes about 60 bytes for each login where there are very many.

A server that evicts may evict the trace of a logout too, or a part of the index, which
the next saves make good; until then nothing distinguishes its entries from those that
never were. Entries that Config.Expiry removes leave no trace, nor do very early versions:
while those run beside it, a login that they forget can come back. Earlier versions do not
keep the index, and need not: [Store.ListIdle] adds what they have saved once a day.

Replication does not wait either: after a failover, the new primary may lack locks, journals and
the newest refresh token, and have one that was spent; and one that was frozen or cut off still
gives out locks until it learns that there is another primary. A strict provider ends a login whose
spent refresh token is presented. Set [Config.Replicas], and
min-replicas-to-write on the server. A Save that too few replicas have confirmed fails
with [ErrNotReplicated], and on a cluster, where a lock and its entry may be on different nodes, so
does a Lock. As a Source writes its journal before it spends a refresh
token, it does not spend one while replicas are missing. What remains is the moment in
which the provider answers: if the primary dies then, together with the process, the
login is lost.

# Locks

A lock is a lease that its holder renews. It ends with unlock, or when the lease has run
out after the process died: after 10 seconds by default. Contrary to the contract of
[tokencache.Store], it also ends when its process is paused or cut off for that long.
What such a process saves late is refused if another process has saved meanwhile, because
Save compares versions, whoever holds the lock. If processes are never killed and the
provider forgives nothing, a longer [Config.Lease] is safer.

Time in which nobody can renew a lease, because the server is restarted, full, frozen,
read-only or failing over, does not end a lock, however long it is. For the last third of
the lease, and two seconds at least, the lock must have no lease at every check, on a
server that accepts writes. A live holder renews it within that time.

A refresh that was in progress when its process died is not forgotten: the name of its lock
is in a set until another process has taken and released the lock, and [Store.Interrupted]
returns the names that have no lease any more. A service that runs Pool.KeepFresh makes up for the refreshes
that its dead replicas had begun, within a lease and some three seconds.

# Cluster and Sentinel

Pass a client of either as [Config.Client]. Entries are spread over the nodes by name,
and locks, each with the set that names it, by 32 hash tags. The client must not read
from replicas. A client of your own also honours deadlines sooner with
ContextTimeoutEnabled; all methods return when ctx is done in any case, and leave the
command behind until its time-out.

A refresh asks a server two or three times: it reads the entry, unless the same process seems to have
renewed the login last; it takes the lock and saves the journal by one script; and it saves the
tokens and releases the lock by another. It asks a cluster seven times, because a lock and its entry may be on different nodes.

# Backups and clones

A refresh token that is rotated may be spent once, so a server that is restored or cloned must not
be used without a decision, see package tokencache. Nothing in a Redis tells a copy of its data
from the original, so set a [Config.Name], such as "production", from the start. To restore an
RDB file or a snapshot, start the service with another Name, such as "production-2", and call
[tokencache.Cache.Adopt]; to make a staging environment, give that its own Name, and call
[tokencache.Cache.Discard] there. Until then nothing is renewed, and access tokens are served as
long as they are good. Replicas and a restarted server keep the Name, because the service has it.

What a backup is worth depends on the provider: where refresh tokens are rotated, those of the
logins that were renewed since are spent, and a strict provider ends such a login when it sees
one; the error says that the login came from a backup.

# Removing users

The name of an entry is a hash of its [tokencache.Key]. A program that knows the key
deletes the entry with [tokencache.Cache.Delete], or ends the login with Source.Logout. If
an account may have entries for other audiences, [tokencache.Cache.List] finds them.
[Config.Expiry] removes abandoned entries.

# Metrics

Embed the Store in a type of your own that measures the methods you care about, as the
example of package pgstore shows. Hooks of [Config.Client] see single commands.

# TLS

With rediss:// in the URL, the server must have a certificate for its name from an
authority that the machine trusts. For an authority of your own, and for a client
certificate, pass a client with a TLSConfig as [Config.Client], as the example shows.

# Rights

The user of the service needs no more than

	ACL SETUSER app on >password ~stayauth:* -@all +hmget +eval +evalsha +scan +info +get +set +hget +hset +del +pexpire +sadd +srem +smembers +exists +time +zadd +zrem +zscore +zrangebyscore +zremrangebyscore

of which the last six are for the index: without them the Store does not know what it has lost
and what is idle, as Check says. That is with the default [Config.Prefix]; +wait too with [Config.Replicas], and +cluster|slots too on
a cluster. SCAN, for List, shows the names of all keys of the server. Redis 6 or later.
*/
package redisstore
