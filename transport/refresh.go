package transport

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// refresh is the critical section. Refresh tokens may be spent once, so the order
// of its steps is what keeps a login alive: lock, read again, be sure that the
// answer can be stored, leave a note, spend, store, and only then publish.
//
// waiting bounds the wait for the lock. The rest has a time of its own: a request
// must not be cut short because others were slow.
func (s *Source) refresh(waiting, ctx context.Context, f *flight) (snap *snapshot, adopted bool, err error) {
	// 0: the provider may be down, and another login be finding out whether it is back.
	if err := s.enter(waiting, f); err != nil {
		return nil, false, err
	}
	trial := f.trial
	defer s.cfg.gate.leave(trial)
	// Who cannot ask at once, because another process has the lock, lets another login.
	late := time.AfterFunc(trialTime, func() { s.cfg.gate.leave(trial) })
	defer late.Stop()
	// 1: one process at a time, and in it one goroutine. A flight that waits sees the
	// token that another process has stored before that gives back the lock.
	unlock, err := s.lockFor(waiting, f)
	for errors.Is(err, tokencache.ErrConflict) {
		if snap, err = s.look(waiting, f); snap != nil || err != nil {
			return snap, snap != nil, err
		}
		unlock, err = s.lockFor(waiting, f)
	}
	if err != nil {
		looking, cancel := context.WithTimeout(ctx, lockTimeout)
		defer cancel()
		if snap, lookErr := s.look(looking, f); lookErr == nil && snap != nil {
			return snap, true, nil
		}
		return nil, false, err // Never refresh without the lock.
	}
	defer unlock()
	s.mu.Lock()
	f.logins = s.logins // More cannot come while it is our turn.
	s.mu.Unlock()

	patient := false // with those who may know a newer state of the login
	for try := range 1 + promptRetries {
		// In state unsaved, before one more refresh token is spent, is the best time to
		// save the last: a crash would now cost two.
		s.savePending(ctx)
		// 2: somebody may have done the work while we waited.
		held := s.cur.Load()
		cur, version, err := s.load(ctx)
		if err != nil {
			return nil, false, err
		}
		if cur != nil {
			if snap := s.adopt(ctx, f, s.cur.Load(), cur); snap != nil {
				return snap, true, nil
			}
		}
		// 3: is there something to spend?
		if err := s.spendable(ctx, cur, version); err != nil {
			if cur == nil && held != nil && held.rec.LoginID != "" && errors.Is(err, ErrLoginRequired) {
				err = vanished()
			}
			return nil, false, err
		}
		if !patient && awaitNewer(ctx, cur) {
			patient = true
			continue
		}
		interrupted := cur != nil && cur.Attempt != nil
		late.Stop()
		if err := s.ask(ctx, f, cur); err != nil {
			return nil, false, err
		}
		if interrupted {
			awaitLostRequest(ctx, cur.Attempt.At)
		}
		// 4, 5: find out that the answer cannot be stored while that is harmless.
		// Whatever keeps the journal from being written would keep the answer too.
		if cur != nil && cur.RefreshToken != "" && s.pending == nil {
			version, err = s.prepare(ctx, cur, version)
			if errors.Is(err, tokencache.ErrConflict) {
				continue // A login or logout came between: read again.
			}
			if err != nil {
				return nil, false, err
			}
		}
		// 6: from here until 7 is done, a crash may lose the login.
		sent := wallNow()
		f.attempts.Add(1)
		answer, err := s.cfg.Refresher.Refresh(ctx, s.orNothing(cur))
		s.answered(f, err)
		if answer == nil {
			cause := asError(err)
			again, err := s.noAnswer(ctx, cur, version, interrupted || cause.Kind == ErrAmbiguous, cause)
			if again || try < promptRetries && s.retryNow(ctx, cur, try, sent, cause) {
				continue
			}
			return nil, false, err
		}
		next := successor(cur, answer, f.refused)
		s.mark(next)
		// 7: what is not saved is lost at the next crash. ctx has no say in this.
		saved := s.save(context.WithoutCancel(ctx), next, version)
		if saved == nil { // The user has logged out meanwhile.
			return nil, false, endedElsewhere()
		}
		// 8: publish. 9: unlock.
		snap := s.snapshot(saved)
		how := EventRefreshed
		if saved != next { // Somebody was faster, although we hold the lock.
			how = EventAdopted
		}
		s.mu.Lock()
		s.cur.Store(snap)
		if err == nil {
			s.emit(ctx, f.end(Event{Type: how}), false)
		}
		s.mu.Unlock()
		return snap, how == EventAdopted, err
	}
	return nil, false, &Error{Kind: ErrStorage, Op: "refresh", Err: tokencache.ErrConflict,
		Remedy: "other processes change this entry without taking its lock"}
}

// enter passes the gate of the provider. What keeps it shut is known already, so that
// nothing follows from this flight.
func (s *Source) enter(ctx context.Context, f *flight) error {
	s.mu.Lock()
	wanted, dead := f.wanted, s.dead != nil
	s.mu.Unlock()
	if dead {
		return nil // Only the cache is asked.
	}
	trial, err := s.cfg.gate.enter(ctx, wanted)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.trial = trial; err != nil {
		f.instead = asError(err)
	}
	return err
}

// orNothing returns rec as a Refresher is given it: if there is none, one that says no
// more than whose login it is.
func (s *Source) orNothing(rec *tokencache.Record) *tokencache.Record {
	if rec == nil {
		return &tokencache.Record{Key: s.key()}
	}
	return rec
}

// askTime is how long a question takes at most that nothing but time depends on, and
// longestSilence how long a provider that answers none is believed to be away, though it
// may still have a request to deal with. After that it is tried all the same: perhaps it
// is questions that it does not answer.
const (
	askTime        = 5 * time.Second
	longestSilence = 30 * time.Minute
)

// ask asks the provider a harmless question before its refresh token is presented in
// doubt: because a request that was lost may still be answered, when a provider that was
// frozen goes on; or because there is an outage, and the end of it is to be found soon
// and without a risk. The error says that the token must not be presented now.
func (s *Source) ask(ctx context.Context, f *flight, cur *tokencache.Record) error {
	since, now := wallNow(), wallNow()
	s.mu.Lock()
	doubt, due := f.trial != nil, s.outage.blocks(now, false) == nil && s.cfg.gate.due(now)
	if o := s.outage; o != nil && (o.err.Kind == ErrUnavailable || o.err.Kind == ErrAmbiguous) {
		doubt, since = true, o.since
	}
	s.mu.Unlock()
	interrupted, patience := cur != nil && cur.Attempt != nil, askTime
	if interrupted {
		doubt, since, patience = true, cur.Attempt.At, longestWait
	}
	if !doubt {
		return nil
	}
	e := s.probe(ctx, patience)
	if e == nil || due && (e.Status != 0 || !e.Timeout() || !interrupted || now.Sub(since) > longestSilence) {
		return nil
	}
	s.cfg.gate.failed(s, e, f.trial != nil)
	return e
}

// probe asks the provider a harmless question, if the Refresher can. It takes d at most.
func (s *Source) probe(ctx context.Context, d time.Duration) *Error {
	p, ok := s.cfg.Refresher.(Prober)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := p.Probe(ctx)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: ErrUnavailable, Op: "refresh", Err: err}
}

// answered tells the gate how an attempt has ended. Whatever the provider has answered,
// it is there.
func (s *Source) answered(f *flight, err error) {
	if err != nil {
		if e := asError(err); e.Kind == ErrUnavailable || e.Kind == ErrAmbiguous {
			s.cfg.gate.failed(s, e, f.trial != nil)
			return
		}
	}
	s.cfg.gate.open()
	s.cfg.gate.leave(f.trial)
}

// load returns the newest record, nil if there is none. The lock is held.
func (s *Source) load(ctx context.Context) (*tokencache.Record, tokencache.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if p := s.pending; p != nil {
		if cur := s.cur.Load(); cur != nil {
			p.rec = demanding(p.rec, cur.rec)
		}
		return p.rec, p.version, nil
	}
	rec, version, err := s.loadOwn(ctx, s.key())
	if s.cfg.unnamed && errors.Is(err, tokencache.ErrNoTrace) {
		if _, _, _, elsewhere := s.locate(ctx); !errors.Is(elsewhere, tokencache.ErrNoTrace) {
			err = cmp.Or(elsewhere, tokencache.ErrConflict)
		}
	}
	if lost := s.lost(err); lost != nil {
		if rec, version, err = s.putBack(ctx, lost, "", wallNow()); errors.Is(err, tokencache.ErrConflict) {
			rec, version, err = s.loadOwn(ctx, s.key())
		}
	}
	if errors.Is(err, tokencache.ErrNotFound) {
		s.cur.Store(nil) // Logged out, by whichever process.
		return nil, "", nil
	}
	if err == nil && s.atFormer.Load() && rec.For == "" {
		rec, version, err = s.takeOver(ctx, rec, version)
	}
	if err != nil {
		return nil, "", storageError("load", err)
	}
	// A store that was set back, by a failover or a restored backup, offers a refresh
	// token that has been spent. Memory knows better.
	if cur := s.cur.Load(); cur != nil && cur.rec.LoginID == rec.LoginID && cur.rec.Generation > rec.Generation {
		putBack := rec.PutBackAt // Others may know better still, see awaitNewer.
		rec = cur.rec.Clone()
		rec.PutBackAt = putBack
	} else if cur != nil {
		rec = demanding(rec, cur.rec)
	}
	return rec, version, nil
}

// spendable returns the reason why cur cannot be refreshed.
func (s *Source) spendable(ctx context.Context, cur *tokencache.Record, version tokencache.Version) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if cur != nil && cur.Tombstone != nil {
		return deadError(cur.Tombstone)
	}
	s.mu.Lock()
	dead, refused := s.dead, s.refused
	s.mu.Unlock()
	if dead != nil && cur != nil && refused != nil && refused.RefreshToken == cur.RefreshToken {
		// The tombstone could not be written. Until it is, others present the token too.
		if _, err := s.cfg.Cache.Save(ctx, s.key(), refused, version); err != nil {
			s.log(ctx, slog.LevelDebug, "the refusal of the refresh token could not be stored", err)
		}
		return dead
	}
	return loginFor(cur, s.cfg.Refresher.Check(s.orNothing(cur)))
}

// prepare makes sure that an answer can be stored, and leaves the note that a
// refresh is in flight.
func (s *Source) prepare(ctx context.Context, cur *tokencache.Record, version tokencache.Version) (tokencache.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if err := s.cfg.Cache.Preflight(ctx, s.key(), cur); err != nil {
		return "", storageError("preflight", err)
	}
	version, err := s.cfg.Cache.Save(ctx, s.key(), attempting(cur), version)
	if err != nil {
		return "", storageError("journal", err)
	}
	return version, nil
}

// attempting returns rec with the note that its refresh token is being spent. Each
// attempt has its own, because the next one waits for what the last has sent.
func attempting(rec *tokencache.Record) *tokencache.Record {
	note := rec.Clone()
	note.Attempt = &tokencache.Attempt{At: wallNow(), PID: os.Getpid()}
	return note
}
