package tokencache

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// The errors of a Store, for use with errors.Is: stores wrap them with the name of the entry or
// file and the remedy.
var (
	// ErrNotFound means that nothing is stored under the name. It is the only
	// error that may be read as "logged out".
	ErrNotFound = errors.New("not found")

	// ErrNoTrace is the ErrNotFound of a store that remembers every Delete for at least 30
	// days: there was none for this name, so nobody has logged out. If there was an entry,
	// it is lost: evicted, flushed, or left behind by a failover. An entry that never
	// existed looks the same, unless the error is a LostError.
	ErrNoTrace = fmt.Errorf("%w, nor any trace that it was deleted", ErrNotFound)

	// ErrConflict means that the entry is no longer at the version that the caller named,
	// and that nothing was changed.
	ErrConflict = errors.New("changed by someone else")

	// ErrCorrupt means that the entry exists but cannot be read: it is damaged, or sealed
	// with a key that is not available. It is never deleted automatically and never
	// mistaken for "logged out".
	ErrCorrupt = errors.New("damaged, or sealed with another key")

	// ErrUnavailable means that the store cannot be used now: a locked keyring, a
	// read-only directory, a full disk, a server that is down. Locked is not empty.
	ErrUnavailable = errors.New("store unavailable")

	// ErrCopy means that a login was not renewed, nor revoked, because its record is a copy: see
	// Record.IsCopy.
	ErrCopy = errors.New("this is a copy of a login that was stored elsewhere: a restored backup, or a clone")
)

// A LostError is the ErrNoTrace of a LossTracker: the entry was there, nobody has deleted it, and
// it is gone.
type LostError struct {
	For time.Duration // how long ago a Load first missed the entry
}

func (e *LostError) Error() string {
	return "lost by the store, which has missed it for " + e.For.Round(time.Second).String()
}

// Unwrap returns ErrNoTrace.
func (e *LostError) Unwrap() error { return ErrNoTrace }

// A Version identifies one saved state of an entry. The zero Version means
// "absent". Versions are opaque: compare them only for equality.
type Version string

// A Store persists small sealed entries by name, and lets the processes that share it take
// turns. A refresh token may be spent only once, so what a Store promises decides whether a
// login survives; package storetest checks every sentence below.
//
// A name is 1 to 128 bytes of any value, and case matters. Entries hold any
// bytes, including none: an empty entry is not an absent one. All methods are
// safe for concurrent use, and return promptly, with an error that wraps
// ctx.Err(), once ctx is done.
type Store interface {
	// Load returns what was last saved under name. If there is nothing, the error wraps
	// ErrNotFound; a store that may lose entries should tell a loss from a Delete, by
	// ErrNoTrace. The caller may modify data.
	Load(ctx context.Context, name string) (data []byte, v Version, err error)

	// Save replaces the entry only if it is still at old; otherwise the error wraps
	// ErrConflict and nothing has changed. A nil error means that the data survives a crash
	// of the process and of the machine. On any other error the entry holds either the old
	// or the new data, whole. Save does not retain data.
	Save(ctx context.Context, name string, data []byte, old Version) (Version, error)

	// Delete removes the entry if it is at old; otherwise the error wraps ErrConflict and
	// nothing has changed. A missing entry is not an error, and a store that remembers
	// deletions remembers that one too. It remembers nothing of the entry's data, and
	// forgets the deletion when there is a new entry.
	Delete(ctx context.Context, name string, old Version) error

	// Lock waits for the exclusive lock on name, across all processes that share the store,
	// until ctx is done. The lock ends with unlock or with the death of the process, never
	// with the passing of time while its holder lives. The entry need not exist, and the
	// lock does not stop Load, Save or Delete. Calling unlock again does nothing and
	// returns nil.
	Lock(ctx context.Context, name string) (unlock func() error, err error)
}

// A Preflighter is a Store that can tell, without changing the entry, whether size bytes could
// be saved in it now. It is called before a refresh token is spent: a full disk or a locked
// keyring must be noticed while that is harmless.
type Preflighter interface {
	Preflight(ctx context.Context, name string, size int) error
}

// A Checker is a Store that can tell what is wrong with the settings of its server and the
// connection to it, even though it works: logins may vanish, or be read on the way.
type Checker interface {
	Check(ctx context.Context) error
}

// A Lister is a Store that can list, in any order, the names that begin with prefix and are
// longer, without loading the entries. A database finds them by its index.
type Lister interface {
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// An IdleLister is a Store that can list the names of the entries that were not saved since a
// time, without reading all the others. A Save counts whatever it was for. An entry that is
// saved while ListIdle runs may be listed or not; no other is left out, and none is listed twice
// unless it is saved meanwhile. An entry that seems to have been saved more than a day in the
// future, because a clock was wrong, is listed: it must not be hidden until then. Where it costs
// little, the longest idle come first.
//
// A store that can hold very many entries does not keep all names in memory.
type IdleLister interface {
	ListIdle(ctx context.Context, before time.Time) iter.Seq2[string, error]
}

// A Watcher is a Store that notices changes while it waits for a lock. LockAt is Lock, but it
// gives up, with an error that wraps ErrConflict, if somebody else has the lock and the entry
// is not, or no longer, at v: a caller that wants the lock for a piece of work need not wait
// any longer when somebody else has done it. It may also give up if nobody has the lock and the
// entry is not at v.
type Watcher interface {
	LockAt(ctx context.Context, name string, v Version) (unlock func() error, err error)
}

// A renewer is a Store that does at once what comes before a refresh token is spent, and at once
// what comes afterwards: a server is asked twice instead of five times. Package storetest checks
// every Store that has this method.
//
// Begin is LockAt, Preflight and Save. It waits for the lock and, if the entry is at old then, which
// is not "", replaces it by data and returns the new version. If the entry is not, or no longer,
// at old, the error wraps ErrConflict, and nothing has changed. After any error the lock is not held.
// A crash of the server may take back what Begin has saved, but must not give the lock to others.
// place is what Place has told as the id when the entry was loaded, or what that led to was: if the
// entry is known to be elsewhere now, the error wraps ErrConflict, and nothing has changed, as it is a
// copy. Before that, a refresh need not load the entry again. "": not known, as in a store that is no
// Placer.
//
// end is Save, and releases the lock when it succeeds; otherwise the lock is still held. unlock is
// to be called in any case; if end has released the lock, it only tells how that went.
type renewer interface {
	Begin(ctx context.Context, name string, data []byte, old Version, place string) (
		v Version, end func(ctx context.Context, data []byte, old Version) (Version, error), unlock func() error, err error)
}

// A Recoverer is a Store that remembers which locks have ended with the death of their process.
// Interrupted returns their names, in any order and perhaps some of them twice, until somebody
// else has taken and released the lock. Entries that a live process has locked are never among
// them. Interrupted may take some seconds, to be sure that a process is dead. With any other
// store, an interrupted refresh is made up for when its login is next used.
type Recoverer interface {
	Interrupted(ctx context.Context) iter.Seq2[string, error]
}

// A LossTracker is a Store that knows which entries it should have: its Load returns a *LostError
// for one that is lost. Wanted returns, in any order, the names of those that somebody has tried
// to load in the last minute, so that a process which has one in memory can save it again. What
// was saved again meanwhile is among them, because another process may have a newer state; what
// has been missed for longer need not be. Usually there are none, and finding that out costs one
// short answer of the server.
type LossTracker interface {
	Wanted(ctx context.Context) iter.Seq2[string, error]
}

// A Placer is a Store that can be told from its copies, such as a restored backup or a clone. Its
// id is what no copy has, and stays the same when the program, the server or the machine is
// restarted, and for all processes that share the store. Its name is what people call it; of two
// stores that have names, the names alone say whether they are the same. Either may be empty: it
// is not known. Place is called for every record that is read or saved, so it should answer from
// memory while nothing indicates a change. An error means that nothing is known now.
type Placer interface {
	Place(ctx context.Context) (id, name string, err error)
}

// A Confidential store keeps its entries secret by itself, as process memory or an OS keyring
// does. Only such a store may be used by a Cache without keys.
type Confidential interface {
	Confidential() bool
}

// savesBy is a Store that saves in another way.
type savesBy struct {
	Store
	save func(ctx context.Context, name string, data []byte, old Version) (Version, error)
}

func (s savesBy) Save(ctx context.Context, name string, data []byte, old Version) (Version, error) {
	return s.save(ctx, name, data, old)
}
