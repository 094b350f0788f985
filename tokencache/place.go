package tokencache

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache/internal/failures"
)

// A refresh token may be spent once, wherever its record has been copied to. So every record
// says in which place it was saved, and what is found in another place, because a backup was
// restored there or a database was cloned, is a copy: nobody spends its refresh token before a
// person has decided, by Adopt or Discard. What is not known, because the store has no place,
// cannot tell it now, or the record was saved by an earlier version, is never held against a
// record.

// Adopt declares that this store is the one in use from now on: the copies in it, see
// Record.IsCopy, are at home here. It returns how many there were. A login that was renewed
// elsewhere since it was copied is lost all the same at most providers, and if the store that it
// was copied from is still in use, that is ended too: then use Discard.
//
// Adopt reads every record, and writes none of them. It does not hold for a copy of this store.
// If some records cannot be read, the others are adopted, and the error says which; the same
// holds for Discard. The store must be a Lister.
func (c *Cache) Adopt(ctx context.Context) (n int, err error) {
	found := make(map[place]time.Time)
	now := time.Now().Round(0)
	var unread failures.Some
	for r, err := range c.List(ctx) {
		if err != nil {
			unread.Add(err)
		} else if r.IsCopy() {
			found[r.Copy.place()] = now
			n++
		}
	}
	if n > 0 {
		if err := c.adopt(ctx, found); err != nil {
			return 0, err
		}
	}
	return n, unread.Err()
}

// Discard deletes the copies in this store, see Record.IsCopy, and returns how many there were.
// Their providers are told nothing: the logins live on in the store that they were copied from.
func (c *Cache) Discard(ctx context.Context) (n int, err error) {
	var unread failures.Some
	for r, err := range c.List(ctx) {
		var v Version
		for err == nil && r.IsCopy() {
			// Whoever has a newer state of the login may save that meanwhile.
			if r, v, err = c.Load(ctx, r.Key); err != nil || !r.IsCopy() {
				break
			}
			if err = c.Delete(ctx, r.Key, v); err == nil {
				n++
				break
			} else if errors.Is(err, ErrConflict) {
				err = nil
			}
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			unread.Add(err)
		}
	}
	return n, unread.Err()
}

// here returns the place of the store, as records name it.
func (c *Cache) here(ctx context.Context) place { return c.where(ctx).sealed }

// where returns the place of the store.
func (c *Cache) where(ctx context.Context) knownPlace {
	placer, ok := c.store.(Placer)
	if !ok {
		return knownPlace{}
	}
	known := c.places.known.Load()
	id, name, err := placer.Place(ctx)
	at := place{id, name}
	switch {
	case err == nil && (known == nil || known.store != at):
		known = &knownPlace{store: at, sealed: place{name: at.name}}
		if at.id != "" {
			sum := sha256.Sum256([]byte("stayauth place v1\n" + at.id))
			known.sealed.id = base64.RawURLEncoding.EncodeToString(sum[:12])
		}
		c.places.known.Store(known)
	case known == nil:
		return knownPlace{}
	}
	return *known
}

// places are what a Cache knows about the place of its store.
type places struct {
	known   atomic.Pointer[knownPlace]
	adopted atomic.Pointer[adoptions]
}

// A place is what tells a store from its copies, see Placer. Its zero value means that nothing is
// known.
type place struct{ id, name string }

// place returns where the record was saved.
func (c *Copy) place() place { return place{c.ID, c.Name} }

// A knownPlace is what the store has told, and what records say of that.
type knownPlace struct{ store, sealed place }

// differs reports whether two places are known to be different.
func (p place) differs(q place) bool {
	if p.name != "" && q.name != "" {
		return p.name != q.name
	}
	return p.id != "" && q.id != "" && p.id != q.id
}

// placed returns the Copy of a record as it is saved here: in the stored form it says where the
// record was saved. A copy remains one.
func (c *Cache) placed(ctx context.Context, from *Copy) *Copy {
	here := c.here(ctx)
	switch {
	case from != nil && from.AdoptedAt.IsZero():
		return from
	case from != nil:
		return &Copy{here.id, here.name, from.AdoptedAt}
	case here == place{}:
		return nil
	}
	return &Copy{ID: here.id, Name: here.name}
}

// judge finds out whether a record is a copy that was saved where its Copy says.
func (c *Cache) judge(ctx context.Context, r *Record) error {
	_, begins := c.store.(renewer)
	if r.Copy == nil && !begins {
		return nil
	}
	where := c.where(ctx)
	here := where.sealed
	if begins {
		r.place = where.store.id
	}
	if r.Copy == nil {
		return nil
	}
	if !r.Copy.place().differs(here) {
		if r.Copy.AdoptedAt.IsZero() {
			r.Copy = nil
		}
		return nil
	}
	at, err := c.adoptedAt(ctx, here, r.Copy.place())
	r.Copy.AdoptedAt = at
	return err
}

// adoptionsKey is that of the record of adoptions. Its Issuer ends like those of the journals of
// package login, so that earlier versions do not take it for a login.
var adoptionsKey = Key{Issuer: "adoptions#web_login", ClientID: "stayauth"}

const adoptionsMember = "adopted"

// adoptions are what the records of some places are at home in.
type adoptions struct {
	here place
	from map[place]time.Time
}

// adoptedAt returns when the records of a place were adopted here, or the zero Time.
func (c *Cache) adoptedAt(ctx context.Context, here, from place) (time.Time, error) {
	if a := c.places.adopted.Load(); a != nil && a.here == here {
		if at, ok := a.from[from]; ok {
			return at, nil
		}
	}
	a, _, err := c.loadAdoptions(ctx, here)
	if err != nil {
		return time.Time{}, err
	}
	c.places.adopted.Store(a)
	return a.from[from], nil
}

// loadAdoptions returns what was adopted here. What was adopted in the store of which this is a
// copy does not count.
func (c *Cache) loadAdoptions(ctx context.Context, here place) (*adoptions, Version, error) {
	a := &adoptions{here: here, from: make(map[place]time.Time)}
	plain, v, err := c.load(ctx, adoptionsKey.Name())
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
		return a, v, nil // A damaged one says nothing, and is replaced by the next.
	}
	if err != nil {
		return nil, v, err
	}
	r, err := decodeRecord(plain)
	if err != nil || r.Copy == nil || r.Copy.place().differs(here) {
		return a, v, nil
	}
	var list []Copy
	if json.Unmarshal([]byte(r.Extra[adoptionsMember]), &list) == nil {
		for _, from := range list {
			a.from[from.place()] = from.AdoptedAt
		}
	}
	return a, v, nil
}

// adopt adds to what was adopted here.
func (c *Cache) adopt(ctx context.Context, found map[place]time.Time) error {
	unlock, err := c.Lock(ctx, adoptionsKey)
	if err != nil {
		return err
	}
	defer unlock()
	here := c.here(ctx)
	a, v, err := c.loadAdoptions(ctx, here)
	if err != nil {
		return err
	}
	maps.Copy(a.from, found)
	var list []Copy
	for from, at := range a.from {
		list = append(list, Copy{from.id, from.name, at})
	}
	text, err := json.Marshal(list)
	if err == nil {
		_, err = c.Save(ctx, adoptionsKey, &Record{ObtainedAt: time.Now(), Extra: map[string]Secret{adoptionsMember: Secret(text)}}, v)
	}
	return err
}
