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

By default Redis forgets: what it confirmed in the last second when it crashes, and
anything at all when its memory is full. Keep logins on a server with

	appendonly yes
	appendfsync always            # else nil from Save does not mean "on the disk"
	maxmemory-policy noeviction   # else a login can vanish

[Store.Check] tells what is not so, and the log does before the first refresh.

Delete leaves an empty key of its own for 31 days, so that an entry which was flushed or
evicted, or which an empty replica does not have, is not taken for a logout
([tokencache.ErrNoTrace]): a process that has the login in memory puts it back, within some
seconds if it runs Pool.KeepFresh. Requests at other replicas wait for that. A replica that
holds no login, or does not hold the one that was evicted among many that were not, says that
the user has to log in. A server that evicts may lose the trace of a logout too. What
Config.Expiry removes leaves none, nor do versions before this one: while they run beside it,
a login that they forget can come back.

Replication does not wait either: after a failover, the new primary may not know the
newest refresh token, and offers one that has been spent. Set [Config.Replicas], and
min-replicas-to-write on the server. A Save that too few replicas have confirmed fails
with [ErrNotReplicated]. As the Source writes its note before it spends a refresh
token, it does not spend one while replicas are missing. What is left is the moment in
which the provider answers: if the primary dies then, together with the process, the
login is lost.

# Locks

A lock is a lease that its holder renews. It is released by unlock, or when the lease
has ended after the process died: 10 seconds by default. Unlike what
[tokencache.Store] asks for, it also ends when its process is paused or cut off for
that long. What such a process saves late is refused if somebody else has saved
meanwhile, because Save compares versions, whoever holds the lock. Where processes are
never killed and the provider forgives nothing, a longer [Config.Lease] is safer.

Time in which nobody can renew a lease ends no lock, however long it is: the server is
restarted, full, frozen, read-only or fails over. For the last third of the lease, and
two seconds at least, a lock must be without it at every look, on a server that writes.
A holder that lives renews it within that time.

What a process had under way when it died is not forgotten: what it had locked is in a
set until somebody has taken the lock and released it, and [Store.Interrupted] tells
what has no lease any more. A service that runs Pool.KeepFresh makes up for the refreshes
that its dead replicas had begun, within a lease and some three seconds.

# Cluster and Sentinel

Pass a client of either as [Config.Client]. Entries are spread over the nodes by name,
and locks, each with the set that names it, by 32 hash tags. The client must not read
from replicas. A client of your own also honours deadlines sooner with
ContextTimeoutEnabled; all methods return when ctx is done in any case, and leave the
command behind until its time-out.

# Removing users

The name of an entry is a hash of its [tokencache.Key]. A program that knows the key
deletes the entry by [tokencache.Cache.Delete], or ends the login by Source.Logout. If an account may
have entries for other audiences, [tokencache.Cache.List] finds them. [Config.Expiry]
lets abandoned entries go.

# Metrics

Embed the Store in a type of your own that measures the methods you care for, as the
example of package pgstore shows. Hooks of [Config.Client] see single commands.

# TLS

With rediss:// in the URL, the server must have a certificate for its name from an
authority that the machine trusts. For an authority of your own, and for a client
certificate, pass a client with a TLSConfig as [Config.Client], as the example shows.

# Rights

The user of the service needs no more than

	ACL SETUSER app on >password ~stayauth:* -@all +hmget +eval +evalsha +scan +info +get +set +hget +hset +del +pexpire +sadd +srem +smembers +exists

with the default [Config.Prefix]; +wait too with [Config.Replicas], and +cluster|slots too on
a cluster. SCAN, for List, shows the names of all keys of the server. Redis 6 or later.
*/
package redisstore
