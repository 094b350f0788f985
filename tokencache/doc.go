/*
Package tokencache persists OAuth logins: durably, sealed, and shared by the
processes that use them.

Often a refresh token may be used only once. Each use yields its successor, and
presenting an old one can make the provider revoke the login. So this is not a
cache whose content may be lost: it must have the newest refresh token on disk
before anybody relies on it, must let processes take turns, and must never take
"cannot be read now" for "not logged in". Package transport refreshes the logins;
it relies on this package to keep them.

# Cache and Record

A [Record] is one login: its tokens and what is known about them. A [Key] says whose
it is. A [Cache] seals and saves records, and loads them again:

	dir, err := tokencache.OpenDir(filepath.Join(configDir, "tokens"))
	...
	cache, err := tokencache.New(dir, tokencache.KeyFile(filepath.Join(configDir, "token-key")))

Save and Delete compare and swap: they name the [Version] that the change is based
on, and fail with [ErrConflict] if another process was faster. A process takes Lock
to refresh a login; the lock ends when the process does, however it ends.

# Stores

A [Store] keeps bytes by name and has locks. [Dir] is a directory that processes
share. [Memory] is for tests, and for programs that log in each time they start. Package
oskeyring keeps entries, or just the key, in the keyring of the operating system.
Package storetest checks every promise of the interface; run it on your own store.
[Cache.Import] and package export move logins from one store to another.

# Keys

Entries are sealed with AES-256-GCM. Each has a key of its own, derived from the
data key and its name, so one cannot be passed off as another. A [KeySource]
supplies the data key: [KeyFile], [PassphraseFile], [KeyBytes], or the OS keyring.
[Cache.Rekey] replaces it while other processes carry on. Only a store that is
[Confidential] may be used without keys.

# Keys that a service protects

With [NewEnveloped] each record has a data key of its own, and a [KeyWrapper] protects that:
a KMS (packages awskms, gcpkms and vaulttransit), or a public key (package publickey). The
wrapped data key is stored beside the record. Whoever has a copy of the store, and even of
the program's configuration, still has to ask the service, which can refuse and keeps a log.
A process asks it when it first uses a login, and once in half of Envelope.MaxAge, but not for
every refresh. [Envelope] says what happens during an outage.

A service whose records were sealed with keys moves there in steps, each of them a deployment
of all replicas:

 1. Envelope{Wrapper: w, Old: keys, OpenOnly: true}, so that all can open what comes next;
 2. Envelope{Wrapper: w, Old: keys}, which envelops each record when it is next saved;
 3. [Cache.Rekey], once, for the remaining records;
 4. Envelope{Wrapper: w}.

The way back is the same in reverse: Old again, OpenOnly again, Rekey, and then New with the
keys. From one service to another, the Wrapper wraps with the new one and unwraps with either,
by the KeyID. When the service's own key is replaced, Rekey wraps the data keys anew without
opening the records; afterwards the old key may be destroyed, as the comment there says.

# Backups and clones

A refresh token that is rotated may be spent once, wherever its record was copied to. So a
record says in which store it was saved, and in any other store, such as a restored backup or
the clone of a database, it is a copy: its access token is used while it is good, but nothing
is renewed or revoked until [Cache.Adopt] or [Cache.Discard] has decided. Until then the error
of package transport wraps [ErrCopy]. Either may be called while the program runs.

A Dir can tell on ext4, XFS, Btrfs, F2FS and ZFS of Linux, APFS and HFS+ of macOS, and NTFS,
but not on a tmpfs, in the image of a container (overlayfs) or on a network share, where a copy
is used without a question. Restore into a new directory (cp -a, tar, rsync), start the program,
and adopt; the same after a move to another disk:

	n, err := cache.Adopt(ctx)

If the provider rotates refresh tokens, a login that was renewed after the backup was made is
lost: it has a token that is spent. A strict provider refuses it and ends the login; the error
then says that it came from a backup. Logins that were not renewed since go on. What is
restored into the existing directory, or together with its whole file system, looks like the
store itself; then there is no question, and the same loss.

A directory that is copied or restored again and again, as the cache of a CI job and the
$SNAP_USER_DATA of a snap are, has to be adopted each time: call Adopt at the start, if the old
copy is never used again, or keep logins where nothing copies them, as in $SNAP_USER_COMMON.

# Guaranteed

  - If Save returns nil, the record survives a crash of the process and of the
    machine. If it returns an error, the old or the new record is there, whole.
  - If several processes change a record at once, one succeeds and the others get an
    error. At most one of them holds the lock at any time.
  - Nothing is deleted because it cannot be read. A damaged record, a wrong key, a
    full disk and a locked keyring are errors that say what to do.
  - No method of fmt, encoding/json or log/slog shows a secret of a [Record], a
    [Secret], a [KeySource], a [Cache] or a [Memory].
  - Records that this version writes can be read by every later one, and this one
    preserves what a later version adds to a record.

# Not guaranteed

  - Protection against other programs of the same user: they can do what this one does.
  - Protection against rollback: whoever can write to the store can put back an older
    entry of the same name.
  - Locks on network file systems. Where locking fails, it fails loudly.
  - That a secret leaves the memory of the process once it is no longer needed. A Secret
    is a string: fmt shows it if it is in an unexported field of another type, whose
    methods fmt cannot call, and for the verbs %p and %w, which go vet reports.
*/
package tokencache
