// Package entry is the stored login: one entry of a token cache, as one process works on it. It
// knows about turns and locks, about the keys and traces of a login, and about a rotation that
// could not be saved yet. It knows nothing about the provider, the callers, or the token in
// use: it returns what it has found and done, and a transport.Source draws the consequences.
package entry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/claims"
)

// Timeout bounds one attempt to save, or to do anything else with the cache.
const Timeout = 10 * time.Second

// A Config says which entries are meant. The Entries of many accounts share one.
type Config struct {
	Cache *tokencache.Cache
	Key   tokencache.Key // whatever its Account

	Unnamed bool   // a login may be under the key that earlier versions used, see former.go
	Asks    bool   // a refresh names what its token is to be for
	What    string // what the records are for; empty if the key was made by the program
	Target  string // which of a login's tokens is meant, see tokencache.Record.Select
}

// An Entry is the stored login of one account. It is safe for concurrent use as far as its
// methods say.
type Entry struct {
	cfg     *Config
	account string

	mu      sync.Mutex
	turn    chan struct{} // held (by a send) while a goroutine works on the entry; nil while nobody does or waits
	present int32         // how many do

	// atFormer says that the login is stored under the key of earlier versions, see former.
	// It changes only when the lock is taken.
	atFormer atomic.Bool

	pending *pending // belongs to the goroutine that has the turn
}

// New returns the entry of an account. It does no I/O.
func New(cfg *Config, account string) Entry { return Entry{cfg: cfg, account: account} }

// Known is what a process knows about a login without the cache.
type Known struct {
	Rec  *tokencache.Record // the newest that it has used, or nil
	Lost *tokencache.Record // what is put back if the store has lost the login, or nil
}

// Found is what Load has found.
type Found struct {
	Rec      *tokencache.Record // nil: nothing is stored
	Version  tokencache.Version // the version that the next save is to replace
	Restored bool               // the store had lost it, and it was put back
	Missing  error              // nothing is stored, and the store may have lost the login: its error
}

// Load returns the newest state of the login: from the store or, if that has an older one or
// has lost it, from memory. The lock is held. What start has found unchanged is not read again, the
// first time.
func (e *Entry) Load(ctx context.Context, known Known, start *Start) (found Found, err error) {
	if start.Begun() {
		found = Found{Rec: start.Rec, Version: start.begun}
		if start.Rec = nil; known.Rec != nil {
			found.Rec = claims.Demanding(found.Rec, known.Rec)
		}
		return found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if p := e.pending; p != nil {
		if known.Rec != nil {
			p.rec = claims.Demanding(p.rec, known.Rec)
		}
		return Found{Rec: p.rec, Version: p.version}, nil
	}
	rec, version, err := e.Read(ctx)
	if e.cfg.Unnamed && errors.Is(err, tokencache.ErrNoTrace) {
		if _, _, _, elsewhere := e.Locate(ctx); elsewhere == nil {
			err = tokencache.ErrConflict
		} else if !errors.Is(elsewhere, tokencache.ErrNoTrace) {
			err = elsewhere
		}
	}
	if known.Lost != nil && errors.Is(err, tokencache.ErrNoTrace) {
		rec, version, err = e.PutBack(ctx, known.Lost, "", wallNow())
		if found.Restored = err == nil; errors.Is(err, tokencache.ErrConflict) {
			rec, version, err = e.Read(ctx)
		}
	}
	if errors.Is(err, tokencache.ErrNotFound) {
		if errors.Is(err, tokencache.ErrNoTrace) {
			found.Missing = err
		}
		return found, nil
	}
	if err == nil && e.atFormer.Load() && rec.For == "" {
		rec, version, err = e.takeOver(ctx, rec, version)
	}
	if err != nil {
		return found, err
	}
	// A store that was set back, by a failover or a restored backup, has a refresh token
	// that was spent. Memory knows better.
	if cur := known.Rec; cur != nil && cur.LoginID == rec.LoginID && cur.Generation > rec.Generation {
		putBack := replacing(rec) // Others may know better still.
		rec = cur.Clone()
		rec.PutBackAt = putBack
	} else if cur != nil {
		rec = claims.Demanding(rec, cur)
	}
	found.Rec, found.Version = rec, version
	return found, nil
}

// Save stores rec in place of version, or of nothing if that is "". It neither checks that rec
// is newer nor tries again; Replace does.
func (e *Entry) Save(ctx context.Context, rec *tokencache.Record, version tokencache.Version) (tokencache.Version, error) {
	return e.cfg.Cache.Save(ctx, e.Key(), rec, version)
}

// Preflight finds out whether the successor of rec could be stored, see
// tokencache.Cache.Preflight.
func (e *Entry) Preflight(ctx context.Context, rec *tokencache.Record) error {
	return e.cfg.Cache.Preflight(ctx, e.Key(), rec)
}

// Delete removes what is stored, and leaves a trace.
func (e *Entry) Delete(ctx context.Context, version tokencache.Version) error {
	return e.cfg.Cache.Delete(ctx, e.Key(), version)
}

// PutBack saves rec, which the store had lost at the given time, in place of version.
func (e *Entry) PutBack(ctx context.Context, rec *tokencache.Record, version tokencache.Version, at time.Time) (*tokencache.Record, tokencache.Version, error) {
	rec = rec.Clone()
	rec.PutBackAt, rec.For = at, ""
	e.Mark(rec)
	version, err := e.Save(ctx, rec, version)
	return rec, version, err
}

func wallNow() time.Time { return time.Now().Round(0) }
