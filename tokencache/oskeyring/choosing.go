package oskeyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// notTried is the error of a choice other than the noted one. What to do is said by the
// error of that, if it is accepted.
func (c *Config) notTried(place string) error {
	remedy := ""
	if !c.accepts(place) {
		remedy = ": accept that, or delete the records and log in again"
	}
	return fmt.Errorf("%w: not tried, because the records are sealed with the key in the %s%s", tokencache.ErrUnavailable, place, remedy)
}

func (c *Config) accepts(place string) bool {
	return slices.ContainsFunc(c.Accept, func(choice KeyChoice) bool { return choice.kind == place })
}

// try opens the cache with one choice. If it is the noted one and not the best, a record
// has to show that the note is right: nobody has signed it.
func (c *Config) try(ctx context.Context, d *dirs, choice KeyChoice, sealed, noted, weaker bool) (*tokencache.Cache, error) {
	cache, keys, err := c.withKeys(ctx, d, choice, !sealed)
	if err != nil {
		return nil, err
	}
	switch {
	case !sealed:
		// A login can be stored before it is started.
		if err = cache.Preflight(ctx, tokencache.Key{}, new(tokencache.Record)); err == nil {
			err = d.setPlace(ctx, choice.kind)
		}
		keys.known = nil // The cache has the keys now.
	case noted && weaker:
		if err = opensAny(ctx, cache); err != nil {
			err = fmt.Errorf("%w: %s says that the records are sealed with the key in the %s, and it opens none of them: bring back the directory as it was; or delete it, which ends these logins, and log in again",
				tokencache.ErrCorrupt, d.path, choice.kind)
		}
	case !noted: // The note is lost.
		if err = opensAny(ctx, cache); err != nil {
			err = fmt.Errorf("%w of these records: %w", errNoKey, err)
		} else {
			d.setPlace(ctx, choice.kind) // If that fails, it is found out again.
		}
	}
	if err != nil {
		return nil, err
	}
	keys.choosing, keys.create = false, false
	return cache, nil
}

// better looks at a choice that is better than the noted place of the key. The note lies
// beside the records, and whoever can write there must not choose the key of the next
// login. So it does not count if the better key opens a record, or if there is a key in a
// place in which one is only made when it is chosen. Nobody is asked for anything.
func (c Config) better(ctx context.Context, d *dirs, choice KeyChoice, place string) (*tokencache.Cache, error) {
	c.OnPrompt, c.Timeout = nil, min(c.Timeout, time.Second)
	cache, keys, err := c.withKeys(ctx, d, choice, false)
	if err != nil {
		return nil, c.notTried(place)
	}
	if opensAny(ctx, cache) == nil {
		if err := d.setPlace(ctx, choice.kind); err != nil {
			return nil, err
		}
		keys.choosing = false
		return cache, nil
	}
	if _, given := keys.keeper.(givenKeys); given {
		return nil, c.notTried(place)
	}
	return nil, fmt.Errorf("%w: it holds a key for the records in %s, which opens none of them, and a note there says that they are sealed with the key in the %s: if you know why, accept that only; or delete the directory, which ends these logins, and log in again",
		tokencache.ErrCorrupt, d.path, place)
}

// withKeys returns the cache with one choice, and its source, which has the keys.
func (c *Config) withKeys(ctx context.Context, d *dirs, choice KeyChoice, create bool) (*tokencache.Cache, *chosenKeys, error) {
	keys := &chosenKeys{keeper: choice.open(c, d), kind: choice.kind, dirs: d, choosing: true, create: create}
	cache, err := tokencache.New(d.records, keys)
	if err == nil {
		keys.known, err = keys.Keys(ctx)
	}
	if err == nil && !create {
		for range cache.List(ctx) { // Now the cache has the keys too.
			break
		}
		keys.known = nil
	}
	return cache, keys, err
}

// chosenKeys is the key source of a Cache that Open returns.
type chosenKeys struct {
	keeper
	kind string
	dirs *dirs

	choosing bool     // Open is at work
	create   bool     // there are no records, and this process alone makes a key now
	known    [][]byte // what Open has just been told, for the cache
}

// String says where the key is, for Cache.KeyPlace.
func (k *chosenKeys) String() string { return k.kind }

// Keys implements tokencache.KeySource.
func (k *chosenKeys) Keys(ctx context.Context) ([][]byte, error) {
	if !k.choosing {
		// Before there were records, another process may have made another choice.
		place, err := k.dirs.place(ctx)
		if err != nil {
			return nil, err
		}
		if place != k.kind {
			return nil, fmt.Errorf("%w: another process has chosen the %s since: open the cache again", tokencache.ErrUnavailable, place)
		}
	}
	if known := k.known; known != nil {
		k.known = nil
		return known, nil
	}
	keys, err := k.keeper.keys(ctx, k.create)
	switch {
	case err == nil:
		return keys, nil
	case errors.Is(err, errNoKey):
		err = fmt.Errorf("%w: the key that seals the records is gone (%w): bring it back from a backup of the %s; or delete %s (Config.Discard), which ends these logins, and log in again",
			tokencache.ErrCorrupt, err, k.kind, k.dirs.path)
	case !errors.Is(err, tokencache.ErrUnavailable) && !errors.Is(err, tokencache.ErrCorrupt):
		err = fmt.Errorf("%w: %w", tokencache.ErrUnavailable, err)
	}
	return nil, err
}

// opensAny returns an error if the cache can open none of its records.
func opensAny(ctx context.Context, cache *tokencache.Cache) (err error) {
	for _, err = range cache.List(ctx) {
		if err == nil {
			return nil
		}
	}
	return err
}

// hasRecords reports whether any record is stored.
func (d *dirs) hasRecords(ctx context.Context) (bool, error) {
	for _, err := range d.records.List(ctx) {
		return err == nil, err
	}
	return false, nil
}

// The entry of dirs.about.
const placeEntry = "place"

// place returns where the sealing key is, or "" if that has never been noted.
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
