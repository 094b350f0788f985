package tokencache

import (
	"context"
	"errors"
	"iter"

	"github.com/stayauth/stayauth/tokencache/internal/failures"
)

// Import saves records that another Cache lists, or that package export reads, and returns how
// many of them it has saved, and how many it has not because the Cache has the same or a newer
// one. It never replaces a later state of a login, nor a later login, see Record.NewerThan. A
// login that has been ended here since the records were written comes back. What is saved is at
// home here, unless the record was a copy already, see Record.IsCopy.
//
// Records are saved one by one, each under the lock on its entry, so other processes may go on,
// and an Import that was interrupted can simply be done again. A record or an entry that cannot
// be read (ErrCorrupt) is left as it is, the others follow, and the error says so. Any other
// error ends the Import.
//
// To whoever asks for idle logins, such as Pool.KeepFresh in package transport, a store says that
// what is imported was renewed when it was imported.
//
// From then on the logins are here. If the tokens are rotated, only one of the two caches may
// be used any more: whichever refreshes second presents a refresh token that was spent, and a
// strict provider then ends the login for both.
func (c *Cache) Import(ctx context.Context, records iter.Seq2[*Record, error]) (imported, kept int, err error) {
	var unread failures.Some
	for r, err := range records {
		saved := false
		if err == nil {
			saved, err = c.saveNewer(ctx, r)
		}
		switch {
		case saved:
			imported++
		case err == nil:
			kept++
		case errors.Is(err, ErrCorrupt):
			unread.Add(err)
		default:
			return imported, kept, errors.Join(err, unread.Err())
		}
	}
	return imported, kept, unread.Err()
}

// saveNewer saves r, unless the entry holds the same, something newer, or what cannot be
// compared with it.
func (c *Cache) saveNewer(ctx context.Context, r *Record) (saved bool, err error) {
	unlock, err := c.Lock(ctx, r.Key)
	if err != nil {
		return false, err
	}
	defer unlock()
	for {
		stored, v, err := c.Load(ctx, r.Key)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return false, err
		case !replaces(r, stored):
			return false, nil
		}
		if _, err = c.Save(ctx, r.Key, r, v); !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
	}
}

// replaces reports whether r is saved in place of stored. Something newer never is. A copy whose
// refresh token nobody may use is replaced by the same from where it is at home.
func replaces(r, stored *Record) bool {
	if stored.NewerThan(r) {
		return false
	}
	return r.NewerThan(stored) || stored.IsCopy() && !r.IsCopy() && stored.Tombstone == nil
}
