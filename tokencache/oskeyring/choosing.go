package oskeyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/stayauth/stayauth/tokencache"
)

// chosenKeys is the key source of a Cache that Open returns. Somebody who can write to the
// directory must not choose the key of the next login, so neither the records nor the note of
// where their key is decide that: the best accepted place that answers seals. Weaker ones open
// what they have sealed, until it is saved again.
type chosenKeys struct {
	config    *Config
	dirs      *dirs
	keyStores []keyStore // of config.Accept

	sealing atomic.Int64 // the index of the one that seals
	skipped []error      // why the better ones do not
	weakest int          // the index of the weakest whose keys are needed
	known   [][]byte     // what Open has just got, for the cache
}

func newChosenKeys(c *Config, d *dirs) *chosenKeys {
	k := &chosenKeys{config: c, dirs: d}
	for _, choice := range c.Accept {
		k.keyStores = append(k.keyStores, choice.open(c, d))
	}
	return k
}

func (k *chosenKeys) place(i int) string { return k.config.Accept[i].kind }

// String says where the key is, for Cache.KeyPlace.
func (k *chosenKeys) String() string { return k.place(int(k.sealing.Load())) }

// AddKey implements tokencache.KeyRotator.
func (k *chosenKeys) AddKey(ctx context.Context) error {
	return k.keyStores[k.sealing.Load()].AddKey(ctx)
}

// DropOldKeys implements tokencache.KeyRotator.
func (k *chosenKeys) DropOldKeys(ctx context.Context) error {
	return k.keyStores[k.sealing.Load()].DropOldKeys(ctx)
}

// Keys implements tokencache.KeySource.
func (k *chosenKeys) Keys(ctx context.Context) ([][]byte, error) {
	if known := k.known; known != nil {
		k.known = nil
		return known, nil
	}
	place, err := k.dirs.place(ctx)
	if err != nil {
		return nil, err
	}
	chosen := int(k.sealing.Load())
	if chosen == 0 && place == k.place(0) {
		keys, err := k.keyStores[0].keys(ctx)
		if err != nil {
			err = k.failure(0, err)
		}
		return keys, err
	}
	sealed, err := k.dirs.hasRecords(ctx)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	switch {
	case sealed:
		keys, err = k.find(ctx, place)
	case place != "" && !k.config.accepts(place):
		err = fmt.Errorf("%w: another process has chosen the %s since: open the cache again", tokencache.ErrUnavailable, place)
	default:
		keys, err = k.first(ctx, chosen)
	}
	if err == nil && int(k.sealing.Load()) > chosen { // Open has reported a better one.
		err = none(k.skipped)
		k.sealing.Store(int64(chosen))
	}
	if err == nil && !sealed {
		err = k.dirs.setPlace(ctx, k.String())
	}
	return keys, err
}

// first returns the keys of the first place that works, and makes a key there if there is none.
// There are no records. If a place was chosen before, no key is made there, and nothing weaker
// will do.
func (k *chosenKeys) first(ctx context.Context, chosen int) ([][]byte, error) {
	var failed []error
	for i, store := range k.keyStores {
		var keys [][]byte
		var err error
		if i == chosen {
			keys, err = store.keys(ctx)
		} else {
			keys, err = store.make(ctx, nil)
		}
		if err == nil {
			k.seals(i, failed)
			return keys, nil
		}
		failed = append(failed, k.failure(i, err))
		if i == chosen || final(ctx, err, false) {
			break
		}
	}
	return nil, none(failed)
}

// seals notes which place seals, and why better ones do not.
func (k *chosenKeys) seals(i int, failed []error) {
	k.sealing.Store(int64(i))
	k.skipped = failed
}

// failure returns the error of a place.
func (k *chosenKeys) failure(i int, err error) error {
	switch {
	case errors.Is(err, errNoKey):
		err = fmt.Errorf("%w: the key that seals the records is gone (%w): bring it back from a backup of the %s; or delete %s (Config.Discard), which ends these logins, and log in again",
			tokencache.ErrCorrupt, err, k.place(i), k.dirs.path)
	case !errors.Is(err, tokencache.ErrUnavailable) && !errors.Is(err, tokencache.ErrCorrupt):
		err = fmt.Errorf("%w: %w", tokencache.ErrUnavailable, err)
	}
	if _, ok := errors.AsType[*Error](err); !ok { // which says so itself
		err = fmt.Errorf("%s: %w", k.place(i), err)
	}
	return err
}

func none(failed []error) error {
	return fmt.Errorf("no sealing key can be had: %w", errors.Join(failed...))
}

// final reports whether no weaker place may be tried after an error: if it comes from the
// directory, where somebody may have provoked it; or, unless goOn, if it comes from a place
// that holds something that cannot be read.
func final(ctx context.Context, err error, goOn bool) bool {
	_, beside := errors.AsType[besideError](err)
	return beside || ctx.Err() != nil || !goOn && errors.Is(err, tokencache.ErrCorrupt)
}

// A besideError comes from a file beside the records, not from the place of the key.
type besideError struct{ error }

func (e besideError) Unwrap() error { return e.error }

func (c *Config) accepts(place string) bool { return c.index(place) >= 0 }

// index returns the index of a place in Accept, or -1.
func (c *Config) index(place string) int {
	return slices.IndexFunc(c.Accept, func(choice KeyChoice) bool { return choice.kind == place })
}

// hasRecords reports whether any record is stored.
func (d *dirs) hasRecords(ctx context.Context) (bool, error) {
	for _, err := range d.records.List(ctx, "") {
		return err == nil, err
	}
	return false, nil
}

// The entry of dirs.about.
const placeEntry = "place"

// place returns where the sealing key is, or "" if that has never been noted. The note is not
// authenticated: it only says what to try, and to report, if the better places do not answer.
func (d *dirs) place(ctx context.Context) (string, error) {
	data, _, err := d.about.Load(ctx, placeEntry)
	if errors.Is(err, tokencache.ErrNotFound) {
		return "", nil
	}
	return string(data), err
}

// setPlace notes where the sealing key is, before it seals anything.
func (d *dirs) setPlace(ctx context.Context, place string) error {
	for {
		data, v, err := d.about.Load(ctx, placeEntry)
		if err != nil && !errors.Is(err, tokencache.ErrNotFound) || string(data) == place {
			return err
		}
		if _, err = d.about.Save(ctx, placeEntry, []byte(place), v); !errors.Is(err, tokencache.ErrConflict) {
			return err
		}
	}
}
