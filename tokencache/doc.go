/*
Package tokencache keeps OAuth logins: durably, sealed, and shared by the
processes that use them.

A refresh token may often be used only once. Each use yields its successor, and
presenting an old one can make the provider revoke the login. So a cache of tokens
is not one that may be lost: it must have the newest refresh token on the disk
before anybody relies on it, must let processes take turns, and must never take
"cannot be read now" for "not logged in". Package transport does the refreshing;
this package is what it relies on.

# Cache and Record

A [Record] is one login: its tokens and what is known of them. A [Key] says whose
it is. A [Cache] saves records sealed, and loads them again:

	dir, err := tokencache.OpenDir(filepath.Join(configDir, "tokens"))
	...
	cache, err := tokencache.New(dir, tokencache.KeyFile(filepath.Join(configDir, "token-key")))

Save and Delete compare and swap: they name the [Version] that the change is based
on, and fail with [ErrConflict] if another process was faster. Lock is the turn that
a process takes to refresh a login; it ends when the process does, however it ends.

# Stores

A [Store] keeps bytes by name and has locks. [Dir] is a directory that processes
share, [Memory] is for tests and for programs that log in each time. Package
oskeyring keeps entries, or just the key, in the keyring of the operating system.
Package storetest checks every promise of the interface; run it on your own store.

# Keys

Entries are sealed with AES-256-GCM. Each has a key of its own, derived from the
data key and its name, so one cannot be passed off as another. A [KeySource]
supplies the data key: [KeyFile], [PassphraseFile], [KeyBytes], or the OS keyring.
[Cache.Rekey] replaces it while other processes go on working. Only a store that is
[Confidential] may be used without keys.

# Guaranteed

  - When Save returns nil, the record survives a crash of the process and of the
    machine. When it does not, the old or the new record is there, whole.
  - Of several processes that change a record at once, one succeeds and the others
    are told. At any time one of them holds the lock.
  - Nothing is deleted because it cannot be read. A damaged record, a wrong key, a
    full disk and a locked keyring are errors that say what to do.
  - No method of fmt, encoding/json or log/slog shows a secret of a [Record], a
    [Secret], a [KeySource], a [Cache] or a [Memory].
  - Records written by this version can be read by every later one, and what a later
    version adds to a record is kept by this one.

# Not guaranteed

  - Protection against other programs of the same user: they can do what this one can.
  - Protection against rollback: whoever can write to the store can put back an older
    entry of the same name.
  - Locks on network file systems. Where locking fails, it fails loudly.
  - That a secret leaves the memory of the process once it is not needed. A Secret
    is a string: fmt shows it if it is in an unexported field of another type, which
    fmt cannot ask how to print itself, and for the verbs %p and %w, which go vet
    reports.
*/
package tokencache
