package transport

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// reload reads the cache again, and adopts what it holds if that is of use, without taking the
// lock. An error says that there is nothing more to be done. If it returns neither, only the
// critical section can tell.
func (s *Source) reload(ctx context.Context, f *flight) (*snapshot, error) {
	cur := s.cur.Load()
	key, rec, at, err := s.locateReturning(ctx)
	if f.rec = nil; at != f.at && key == s.entry.Named() {
		f.rec = rec
	}
	f.at = at
	switch {
	case s.mayReturn(ctx, err):
		return nil, lostError(err) // As long as the store loses logins, nobody is a stranger.
	case errors.Is(err, tokencache.ErrNotFound):
		if why := lostForGood(err, s.cfg.Refresher.Check(s.orNothing(nil))); cur == nil && why != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.dead != nil && errors.Is(why, ErrLoginRequired) && !isLost(why) {
				return nil, s.dead // It may know more.
			}
			return nil, why
		}
		return nil, nil
	case err != nil:
		return nil, storageError("load", err)
	case key != s.entry.Named() && rec.For == "":
		return nil, nil
	}
	s.cfg.losses.SawPutBack(rec)
	if snap := s.adopt(ctx, f, cur, rec); snap != nil {
		return snap, nil
	}
	if rec.Tombstone != nil && (cur == nil || !newer(cur.rec, rec)) {
		return nil, deadError(rec)
	}
	return nil, nil
}

// adopt publishes the token of a record that came from the cache, if it is newer than the one
// in use, good, and not rejected. A stale one will do for a start. cur is the token in use, as
// it was before the record was read.
func (s *Source) adopt(ctx context.Context, f *flight, cur *snapshot, rec *tokencache.Record) *snapshot {
	now := wallNow()
	switch {
	case rec == nil, rec.AccessToken == f.rejected, f.renewed != nil && !newer(rec, f.renewed):
		return nil
	case cur != nil && !newer(rec, cur.rec):
		if cur.fresh(now) && !newer(cur.rec, rec) {
			return cur // A login of this process came between.
		}
		return nil
	}
	snap := s.snapshot(rec)
	if cur.usable(now) && !cur.rejected && !snap.fresh(now) || !snap.usable(now) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := cur; !s.cur.CompareAndSwap(at, snap); {
		if at = s.cur.Load(); !at.same(cur) {
			return nil // A login or logout came between, and not only another rejection.
		}
	}
	// Otherwise it is what a process finds when it starts, or nothing new.
	if s.dead != nil || cur != nil && cur.rec.AccessToken != rec.AccessToken {
		s.emit(ctx, f.end(Event{Type: EventAdopted}), false)
	}
	return snap
}

// load returns the newest record, or nil if there is none. The lock is held.
func (s *Source) load(ctx context.Context, start *entry.Start) (*tokencache.Record, tokencache.Version, error) {
	found, err := s.entry.Load(ctx, s.known(), start)
	if err != nil {
		return nil, "", storageError("load", err)
	}
	if found.Restored {
		s.cfg.losses.Missed()
		s.restored(ctx, found.Rec)
	}
	if s.mayReturn(ctx, found.Missing) {
		return nil, "", lostError(found.Missing)
	}
	s.check(ctx)
	if found.Rec == nil {
		s.cur.Store(nil) // Logged out, by whichever process.
	}
	return found.Rec, found.Version, nil
}

// check logs, once per process, what is wrong with the settings of the store.
func (s *Source) check(ctx context.Context) {
	if s.cfg.checked.Swap(true) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, entry.Timeout)
	defer cancel()
	if err := s.cfg.Cache.Check(ctx); err != nil {
		s.log(ctx, slog.LevelWarn, "the store should be set up differently", err)
	}
}

// orNothing returns rec for a Refresher: if there is none, a record that says no more than
// whose login it is.
func (s *Source) orNothing(rec *tokencache.Record) *tokencache.Record {
	if rec == nil {
		return &tokencache.Record{Key: s.entry.Key()}
	}
	return rec
}

// traceTime is how long a store remembers logouts at least, see tokencache.ErrNoTrace. A login
// that has not been in the store since then may have been ended.
const traceTime = 30 * 24 * time.Hour

// known returns what this process knows about the login.
func (s *Source) known() entry.Known {
	known := entry.Known{Lost: s.puttable()}
	if cur := s.cur.Load(); cur != nil {
		known.Rec = cur.rec
	}
	return known
}

// puttable returns the record to put back if the store has lost the login, or nil.
func (s *Source) puttable() *tokencache.Record {
	cur := s.cur.Load()
	if cur == nil || cur.rec.RefreshToken == "" || wallNow().Sub(cur.rec.RenewedAt()) > traceTime {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refused != nil && s.refused.RefreshToken == cur.rec.RefreshToken:
		return s.refused // with the tombstone
	case s.dead != nil:
		return nil
	}
	return cur.rec
}

// restored reports that rec was put back.
func (s *Source) restored(ctx context.Context, rec *tokencache.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emit(ctx, Event{Type: EventRestored, Generation: rec.Generation, Expiry: rec.Expiry, Err: &Error{Kind: ErrStorage, Op: "load", Err: tokencache.ErrNoTrace,
		Remedy: "the login was put back; find out whether the store was flushed, evicts or was replaced, because it loses logins"}}, false)
}

// mayReturn reports whether another process may put back the login, of which this process knows
// nothing and the store has no trace, as err says: the store has lost it a moment ago or, if the
// store cannot tell, others.
func (s *Source) mayReturn(ctx context.Context, err error) bool {
	if s.cur.Load() != nil || !errors.Is(err, tokencache.ErrNoTrace) {
		return false
	}
	if lost, ok := errors.AsType[*tokencache.LostError](err); ok && lost.For > entry.LostTime || !ok && !s.cfg.losses.Lately(ctx) {
		return false
	}
	return errors.Is(s.cfg.Refresher.Check(s.orNothing(nil)), ErrLoginRequired)
}

// locateReturning is Locate, but gives a login that may return some time to do so.
func (s *Source) locateReturning(ctx context.Context) (key tokencache.Key, rec *tokencache.Record, v tokencache.Version, err error) {
	for begun := wallNow(); ; {
		key, rec, v, err = s.entry.Locate(ctx)
		if wallNow().Sub(begun) > entry.NewerTime || !s.mayReturn(ctx, err) || !sleep.For(ctx, entry.ReloadPause) {
			return key, rec, v, err
		}
	}
}

// storeClaims writes a demand into the cache for the other processes, also while the provider
// is down. If that fails, the token is out of use in this process, and the others learn it from
// the API.
func (s *Source) storeClaims(ctx context.Context) {
	s.mu.Lock()
	due := s.claimed
	s.mu.Unlock()
	if !due {
		return
	}
	unlock, err := s.locked(s.entry.Lock(ctx))
	if err == nil {
		defer unlock()
		err = s.saveDemand(ctx)
	}
	if err != nil {
		s.log(ctx, slog.LevelDebug, "the claims that an API demands could not be stored", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claimed = false
}

// saveDemand saves the record that load returns, if it has a demand. The lock is held.
func (s *Source) saveDemand(ctx context.Context) error {
	rec, version, err := s.load(ctx, new(entry.Start))
	switch pending, _ := s.entry.Pending(); {
	case err != nil:
		return err
	case rec == nil || rec.Claims == "" || pending != nil:
		return nil // The login has ended, or has another token by now, or the saver will save it.
	}
	_, err = s.entry.Save(ctx, rec, version)
	return err
}

// isUnsaved reports whether a rotation could not be saved yet. The turn is held.
func (s *Source) isUnsaved() bool {
	rec, _ := s.entry.Pending()
	return rec != nil
}

// apply draws the consequences of an outcome, except for the token in use. The turn is held.
func (s *Source) apply(ctx context.Context, out entry.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case out.Unsaved != nil:
		s.unsaved = &Error{Kind: ErrStorage, Op: "save", Err: out.Unsaved,
			Remedy: "the new tokens are only in memory; make the cache writable and keep this process running until it is saved"}
		if out.Entered {
			s.emit(ctx, Event{Type: EventUnsaved, Generation: out.Rec.Generation, Expiry: out.Rec.Expiry, Err: s.unsaved}, false)
			_, over := s.entry.Pending()
			s.work.Begin()
			go func() {
				defer s.work.End()
				entry.KeepSaving(over, s.trySaver)
			}()
		}
	case out.Left:
		s.unsaved = nil
		if out.Saved {
			s.emit(ctx, Event{Type: EventSaved, Generation: out.Rec.Generation, Expiry: out.Rec.Expiry}, false)
		}
	}
	if out.Unlocking != nil {
		s.log(ctx, slog.LevelWarn, "unlock failed", out.Unlocking)
	}
}

// savePending tries to leave the state unsaved, if the Source is in it. The turn is held.
func (s *Source) savePending(ctx context.Context) error {
	out, err := s.entry.SavePending(ctx)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.unsaved
	}
	if s.apply(ctx, out); !out.Left || out.Saved {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if out.Rec != nil {
		s.cur.Store(s.snapshot(out.Rec))
		s.emit(ctx, Event{Type: EventAdopted}, false)
		return nil
	}
	s.cur.Store(nil)
	if s.dead == nil {
		s.dead = endedElsewhere()
		s.emit(ctx, Event{Type: EventLoginRequired, Err: s.dead}, false)
	}
	return nil
}

// trySaver is one attempt of the saver, which goes on even if the Source is closed meanwhile:
// as long as this process lives, nobody else has the refresh token that works. It survives the
// panic of a Store.
func (s *Source) trySaver() (saved bool) {
	defer s.deliver(context.Background())
	end, err := s.entry.TakeTurn(context.Background())
	if err != nil {
		return false
	}
	defer func() {
		end()
		if r := recover(); r != nil {
			s.log(context.Background(), slog.LevelError, "the Store panicked", crashed(r))
		}
	}()
	return s.savePending(context.Background()) == nil
}
