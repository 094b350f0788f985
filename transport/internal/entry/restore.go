package entry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// A store can lose what it has confirmed: somebody flushes it, it evicts, an empty replica is
// promoted. That is no logout, so a process that holds such a login puts it back. But that may
// be an old state, whose refresh token another process has spent, and which a strict provider
// would take for stolen. So what was put back is not spent at once: processes that run
// Pool.KeepFresh look for losses all the time, and replace it by what is newer. The lock may be
// lost too, also one that is kept for what is unsaved: a process whose request is at the
// provider says so for as long as that takes, and the others wait. What it then saves counts as
// put back.

const (
	// NewerTime is how long those processes have for that.
	NewerTime = 5 * time.Second

	// LossPause is the mean time between two checks for losses. A pause may be half as long
	// again, and then NewerTime still leaves two seconds to put back what was lost.
	LossPause = 2 * time.Second

	// LostTime is how long a login that the store knows to have lost may be put back. Processes
	// that run KeepFresh look every two seconds or so for what is wanted; there may be very
	// much of it, and a store that was just restarted may be slow.
	LostTime = 30 * time.Second

	// longestAwait is how long a refresh waits for a process that says it needs longer.
	longestAwait = 15 * time.Second

	// doubtTime is how long it matters to a refresh that the login was put back.
	doubtTime = 3 * NewerTime

	// sayPause is the time between two notes that a request is at the provider.
	sayPause = time.Second

	// ReloadPause is the time between two reloads of what others may put back.
	ReloadPause = 250 * time.Millisecond

	// restoreTime is how long to wait for the lock of a login that was lost: it may be held
	// for minutes, and other logins must not wait for that.
	restoreTime = 500 * time.Millisecond
)

const _ = uint64(NewerTime - LossPause*3/2 - 2*time.Second) // must not be negative

// AwaitNewer waits, if rec was put back, until a process that knows a newer state of the login
// has had time to replace it. It returns the time at which the record that it waited for was
// put back. One that was put back at the known time has been waited for before. The lock is
// held.
func (e *Entry) AwaitNewer(ctx context.Context, rec *tokencache.Record, known time.Time) (putBackAt time.Time, err error) {
	if rec == nil || rec.RefreshToken == "" {
		return known, nil
	}
	at := rec.PutBackAt
	for begun := wallNow(); !at.IsZero() && !at.Equal(known); {
		seen := wallNow()
		end := seen.Add(min(at.Add(NewerTime).Sub(seen), NewerTime)) // Clocks differ.
		known = at
		for now := seen; now.Before(end) && at.Equal(known); now = wallNow() {
			if now.Sub(begun) > longestAwait || !sleep.For(ctx, min(end.Sub(now), ReloadPause)) {
				return known, &BusyError{Err: context.DeadlineExceeded}
			}
			if _, stored, _, err := e.Locate(ctx); err == nil {
				if at = stored.PutBackAt; !at.Equal(known) && stored.NewerThan(rec) {
					return known, nil // It came from the provider, and may be what is wanted.
				}
			}
		}
	}
	return at, nil
}

// InDoubt returns the PutBackAt for the journal of a refresh that begins, given that of the
// login. If the login was put back just now, the lock may be lost too, and another process that
// takes it then waits for this refresh as for a newer state.
func InDoubt(putBackAt time.Time) time.Time {
	if now := wallNow(); !putBackAt.IsZero() && now.Sub(putBackAt) <= doubtTime {
		return now
	}
	return time.Time{}
}

// inDoubt returns rec as it is saved in the place of what was put back at the given time.
func inDoubt(rec *tokencache.Record, putBackAt time.Time) *tokencache.Record {
	c := rec.Clone()
	c.PutBackAt = InDoubt(putBackAt)
	return c
}

// replacing returns the PutBackAt of a state of the login that takes the place of an older one.
// If the refresh token of that was refused, or is being spent, another process has presented it
// although this one had spent it; so if the provider refuses the newer one too, the user is told of
// the loss.
func replacing(older *tokencache.Record) (putBackAt time.Time) {
	if older.Tombstone != nil || older.Attempt != nil {
		return wallNow()
	}
	return older.PutBackAt
}

// Doubt notes in rec, which is stored at version v, that the refresh token it came of was presented
// once more: if the provider takes that for a theft, whoever presents the next one can tell why the
// login has ended. Processes that see the note also look whether the store has lost more. No login
// depends on that, so there is no error.
func (e *Entry) Doubt(ctx context.Context, rec *tokencache.Record, v tokencache.Version) {
	next := rec.Clone()
	next.PutBackAt = wallNow()
	e.Save(ctx, next, v)
}

// Work is what a process does with a login.
type Work int

const (
	Idle     Work = iota
	Busy          // it refreshes the login, or has something to save
	Spending      // it has sent the refresh token to the provider
)

// Restore puts the login back if the store has lost it, or has an older state that another
// process has put back. It returns what it has put back, if anything, and whether the login is
// being worked on, so that it has to be checked again.
func (e *Entry) Restore(ctx context.Context, losses *Losses, known func() Known, doing func() Work) (restored *tokencache.Record, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	for range 3 {
		holds := known()
		if holds.Rec == nil {
			return nil, false, nil // It has been ended meanwhile.
		}
		key, rec, version, err := e.Locate(ctx)
		lately := err == nil && key == e.Key() && losses.SawPutBack(rec)
		switch {
		case holds.Lost != nil && errors.Is(err, tokencache.ErrNoTrace):
			if losses.Missed(); doing() != Idle {
				return nil, true, nil // The flight will find out.
			}
			restored, err = e.restoreLocked(ctx, known)
		case lately && holds.Rec.NewerThan(rec) && !rec.NewerThan(holds.Rec):
			restored, _, err = e.PutBack(ctx, holds.Rec, version, rec.PutBackAt)
		case lately && !rec.NewerThan(holds.Rec) && doing() == Spending && wallNow().Sub(rec.PutBackAt) < sayPause:
			return nil, true, nil
		case lately && !rec.NewerThan(holds.Rec) && doing() == Spending:
			// The lock was lost too, and another process waits for a newer state
			// that is on its way.
			rec = rec.Clone()
			rec.PutBackAt = wallNow()
			_, err = e.Save(ctx, rec, version)
			return nil, true, err
		default:
			return nil, false, nil
		}
		if !errors.Is(err, tokencache.ErrConflict) {
			if err != nil {
				restored = nil
			}
			return restored, err != nil, err
		}
	}
	return nil, true, nil
}

// restoreLocked puts the login back under the lock, so that it does not undo a logout. The
// error wraps ErrConflict if the entry has changed and has to be read again.
func (e *Entry) restoreLocked(ctx context.Context, known func() Known) (*tokencache.Record, error) {
	brief, cancel := context.WithTimeout(ctx, restoreTime)
	defer cancel()
	unlock, err := e.LockAt("")(brief)
	if err != nil {
		return nil, err
	}
	found, err := e.Load(ctx, known(), new(Start))
	if unlocking := unlock(); err == nil {
		err = unlocking
	}
	if !found.Restored {
		return nil, err
	}
	return found.Rec, err
}

// Losses is what a process has seen of a store that loses logins. A nil *Losses sees nothing.
type Losses struct {
	Check func(ctx context.Context) // checks that the store has the logins that are in memory
	Seen  chan struct{}             // gets a value, if there is room, when a login was lost

	at     atomic.Int64 // a time before which the last one was lost, in Unix nanoseconds
	missed atomic.Int64 // when this process has last missed one
}

// Missed records that the store does not have a login that this process has.
func (l *Losses) Missed() {
	if l != nil {
		l.missed.Store(wallNow().UnixNano())
		l.Saw(wallNow())
	}
}

// Saw records that the store has lost a login before the given time.
func (l *Losses) Saw(at time.Time) {
	if l == nil {
		return
	}
	for {
		last := l.at.Load()
		if at.UnixNano() <= last {
			return
		}
		if l.at.CompareAndSwap(last, at.UnixNano()) {
			break
		}
	}
	select {
	case l.Seen <- struct{}{}:
	default:
	}
}

// SawPutBack reports whether rec was put back a moment ago, and records that: the store may
// have lost others too.
func (l *Losses) SawPutBack(rec *tokencache.Record) bool {
	lately := momentAgo(rec.PutBackAt)
	if lately {
		l.Saw(rec.PutBackAt)
	}
	return lately
}

// Due reports whether the store has lost logins since they were checked at the given time, and in
// how long to check them again. What others put back then is most likely the same loss, so there is
// time for that; but not so much that they spend what they have put back.
func (l *Losses) Due(checked time.Time) (in time.Duration, lost bool) {
	switch t := checked.UnixNano(); {
	case l.missed.Load() > t:
		return 0, true
	case l.at.Load() > t:
		return max(NewerTime/2-wallNow().Sub(checked), 0), true
	}
	return 0, false
}

// Lately reports whether the store has lost logins a moment ago.
func (l *Losses) Lately(ctx context.Context) bool {
	if l == nil {
		return false
	}
	if !momentAgo(time.Unix(0, l.at.Load())) {
		l.Check(ctx)
	}
	return momentAgo(time.Unix(0, l.at.Load()))
}

func momentAgo(t time.Time) bool {
	ago := wallNow().Sub(t)
	return ago >= 0 && ago < NewerTime
}
