package oskeyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// find returns the keys of the existing records, those that seal first. The noted place says
// how far to search. No person is asked to unlock a better one, unless the records need it.
func (k *chosenKeys) find(ctx context.Context, place string) ([][]byte, error) {
	s := search{chosenKeys: k, note: place, noted: k.config.index(place), best: -1}
	s.below = s.noted + 1
	for s.noted >= 0 && s.below < len(k.keyStores) && k.place(s.below) == place {
		s.below++
	}
	quiet := s
	quiet.quiet = s.noted > 0
	keys, err := quiet.run(ctx)
	if quiet.quiet && k.config.OnPrompt != nil && errors.Is(err, tokencache.ErrUnavailable) && !errors.Is(err, tokencache.ErrCorrupt) {
		return s.run(ctx)
	}
	return keys, err
}

// A search looks for the keys of the records.
type search struct {
	*chosenKeys
	note  string // the noted place
	noted int    // its index, or -1 if it is not accepted
	below int    // the index of the first weaker one; several may have the same name
	quiet bool   // ask no person on behalf of a better place

	best    int // the index of the best place that has keys, or -1
	keys    [][]byte
	failed  []error // why others have none
	silent  bool    // a better one did not answer
	empty   []int   // better ones in which a key could be made
	refused bool    // a weaker one may not open anything
}

func (s *search) run(ctx context.Context) ([][]byte, error) {
	for i := range s.keyStores {
		if err := s.ask(ctx, i); err != nil {
			return nil, err
		}
		if i == 0 && s.best == 0 && s.noted == 0 {
			s.seals(0, nil) // The usual case: there is nothing to compare.
			return s.keys, nil
		}
	}
	if s.best < 0 {
		return nil, s.none()
	}
	c := s.dirs.scan(ctx, s.keys, func(c coverage) bool {
		return c.opened && (c.unknown || !s.silent || c.tried == fewRecords)
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s.silent && c.unknown:
		return nil, s.none() // Its key may be that of the others.
	case !c.opened:
		return nil, s.opensNone()
	}
	return s.better(ctx)
}

// fewRecords are read to see whether the weaker keys open them. Somebody who can write to the
// directory could remove those that they do not open.
const fewRecords = 200

// ask asks the place i for its keys, if they could be of use.
func (s *search) ask(ctx context.Context, i int) error {
	switch {
	case s.noted >= 0 && i >= s.below:
		if s.best < 0 {
			s.failed = append(s.failed, s.failure(i, s.notTried()))
		}
		return nil
	case s.best >= 0 && s.noted < 0 && !s.dirs.scan(ctx, s.keys, func(c coverage) bool { return c.unknown }).unknown:
		return nil // What has been found opens everything.
	case s.best >= 0 && s.mayBeForged(i):
		s.refused = true
		return nil
	}
	keys, err := s.at(i).keys(ctx)
	switch {
	case err == nil:
		if s.best < 0 {
			s.best = i
		}
		s.keys = append(s.keys, keys...)
		s.weakest = i
		return nil
	case s.best >= 0:
		return ctx.Err() // It would only have helped.
	}
	noKey := errors.Is(err, errNoKey)
	if noKey && s.silent {
		err = fmt.Errorf("%w: %v", tokencache.ErrUnavailable, err) // A better place may have it.
	}
	s.failed = append(s.failed, s.failure(i, err))
	if noKey || isProblem(err, Locked) {
		s.empty = append(s.empty, i)
	}
	s.silent = s.silent || !noKey
	if final(ctx, err, i < s.noted) {
		return none(s.failed)
	}
	return nil
}

// at returns the keyStore with which to ask a place.
func (s *search) at(i int) keyStore {
	if k, ok := s.keyStores[i].(*keyringKeys); ok && s.quiet && i < s.noted {
		return k.quiet()
	}
	return s.keyStores[i]
}

// mayBeForged reports whether the records that the weaker place i opens may have been made
// up by somebody who can write to the directory. Where a keyring has a key, it has been
// chosen, and a key file that was in use then is in the keyring, too.
func (s *search) mayBeForged(i int) bool {
	_, keyring := s.keyStores[s.best].(*keyringKeys)
	file, ok := s.keyStores[i].(fileKeys)
	return keyring && ok && file.beside && file.plain
}

// better makes a key in a place that is better than the best that has one. The keys that
// have been found open all the records, or no place is left that may have another.
func (s *search) better(ctx context.Context) ([][]byte, error) {
	for _, i := range s.empty {
		keys, err := s.at(i).make(ctx, s.keys)
		if err == nil {
			s.seals(i, s.failed[:i])
			return append(keys, s.keys...), nil
		}
		// If nothing can be saved, no login is.
		if final(ctx, err, true) && s.dirs.records.Preflight(ctx, placeEntry, keySize) == nil {
			return nil, none([]error{s.failure(i, err)})
		}
		s.failed[i] = s.failure(i, err)
	}
	s.seals(s.best, s.failed)
	return s.keys, nil
}

// none returns the error for when no place has keys that are good enough.
func (s *search) none() error {
	if s.note != "" && s.noted < 0 {
		s.failed = nil
		for i := range s.keyStores {
			s.failed = append(s.failed, s.failure(i, s.notTried()))
		}
	}
	return none(s.failed)
}

// notTried is the error of a choice other than the noted one.
func (s *search) notTried() error {
	remedy := ""
	if s.noted < 0 {
		remedy = ": accept that, or delete the records and log in again"
	}
	return fmt.Errorf("%w: not tried, because the records are sealed with the key in the %s%s", tokencache.ErrUnavailable, s.note, remedy)
}

// opensNone returns the error for when the keys that were found open none of the records.
func (s *search) opensNone() error {
	path, best := s.dirs.path, s.place(s.best)
	switch {
	case s.note != "" && s.noted < 0:
		return s.none()
	case s.refused || s.best < s.noted:
		return fmt.Errorf("%w: the %s holds a key for the records in %s, which opens none of them, and a note there says that they are sealed with the key in the %s: if you know why, accept that only; or delete the directory, which ends these logins, and log in again",
			tokencache.ErrCorrupt, best, path, s.note)
	case s.noted > 0:
		return fmt.Errorf("%w: %s says that the records are sealed with the key in the %s, and it opens none of them: bring back the directory as it was; or delete it, which ends these logins, and log in again",
			tokencache.ErrCorrupt, path, best)
	}
	return none(append(s.failed, s.failure(s.best, fmt.Errorf("%w of these records", errNoKey))))
}

// A coverage says what keys open.
type coverage struct {
	opened  bool // one of the records
	unknown bool // not one that names another key
	tried   int
}

// scan tries keys on the records until it knows enough.
func (d *dirs) scan(ctx context.Context, keys [][]byte, enough func(coverage) bool) (c coverage) {
	source := &triedKeys{keys: keys}
	cache, err := tokencache.New(d.records, source)
	if err != nil {
		return c
	}
	for _, err := range cache.List(ctx) {
		c.tried++
		c.opened = c.opened || err == nil
		// A Cache asks its source again only if an entry names a key that it does not know.
		if c.unknown = source.asked > 1; enough(c) {
			break
		}
	}
	return c
}

type triedKeys struct {
	keys  [][]byte
	asked int
}

// Keys implements tokencache.KeySource.
func (t *triedKeys) Keys(context.Context) ([][]byte, error) {
	t.asked++
	return slices.Clone(t.keys), nil
}

// noteFound notes where the keys of the records have been found, if the note is lost, or names
// a weaker place that is no longer needed. If that fails, the next search finds out again.
func (k *chosenKeys) noteFound(ctx context.Context, note string, keys [][]byte) {
	switch noted := k.config.index(note); {
	case note == "":
		k.dirs.setPlace(ctx, k.place(k.weakest))
	case noted > int(k.sealing.Load()):
		// No process seals a new entry with a weaker key meanwhile.
		limited, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		unlock, err := k.dirs.records.Lock(limited, newEntriesLock)
		if err != nil {
			return
		}
		defer unlock()
		if !k.dirs.scan(ctx, keys[:1], func(c coverage) bool { return c.unknown }).unknown {
			k.dirs.setPlace(ctx, k.String())
		}
	}
}
