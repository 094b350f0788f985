package transport

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// A State says what a Source would do if it were asked for a token now.
type State string

// The states of a Source.
const (
	StateEmpty   State = "empty"   // no login is stored
	StateFresh   State = "fresh"   // the token is good
	StateStale   State = "stale"   // the token is good and will be refreshed at the next use
	StateExpired State = "expired" // the token must be refreshed first
	StateOutage  State = "outage"  // the last refresh failed; the next may be tried at RetryAt
	StateUnsaved State = "unsaved" // refreshed, but the new refresh token is in memory only
	StateDead    State = "dead"    // the provider has refused the refresh token: login required
)

// A Status describes a login, without its secrets.
type Status struct {
	State State
	Key   tokencache.Key
	Scope string

	// KeyPlace is where the key that seals the login in the cache is kept, such as "OS
	// keyring"; see tokencache.Cache.KeyPlace.
	KeyPlace string

	AuthorizedAt  time.Time // when the user logged in
	ObtainedAt    time.Time // when the access token was obtained
	Expiry        time.Time // when the access token expires; zero: unknown
	RefreshAt     time.Time // when it will be refreshed; zero: when an API rejects it
	RefreshExpiry time.Time // when the refresh token expires; zero: unknown
	Generation    uint64    // how often the login has been refreshed

	// AttemptAt is when a refresh began whose outcome is not stored: it is in flight in
	// some process, or was interrupted. Zero: there is none.
	AttemptAt time.Time

	RetryAt time.Time // in StateOutage
	Err     error     // the reason, in StateOutage, StateUnsaved and StateDead
}

// String describes the state in one line and, where a person can help, says what to do.
func (st Status) String() string {
	s, now := "logged in", wallNow()
	switch st.State {
	case "", StateEmpty:
		return "not logged in"
	case StateDead:
		return reason(st.Err)
	case StateStale, StateExpired:
		s += "; the token is renewed when it is next used"
	case StateOutage:
		if now.Before(st.Expiry) {
			s += " with a token that is good until " + st.Expiry.Format(time.RFC3339)
		}
		s += ", but there is no new token for now: " + reason(st.Err)
	case StateUnsaved:
		s += ", but not saved: " + reason(st.Err)
	}
	if !st.AttemptAt.IsZero() {
		s += "; a refresh that began at " + st.AttemptAt.Format(time.RFC3339) + " is under way or was interrupted"
	}
	if st.State != StateFresh && !st.RefreshExpiry.IsZero() && now.After(st.RefreshExpiry) {
		s += "; the refresh token has expired, so a login is likely to be required"
	}
	return s
}

// reason returns the text of an error without the prefix of this package.
func reason(err error) string {
	if err == nil {
		return "unknown"
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "stayauth: "), "refresh: ")
}

// Status returns the state of the login. It asks the cache, never the provider.
// In the states outage and dead the access token may still be good; but a login that is bound to a
// key, and cannot be used here for want of it, is in state outage.
func (s *Source) Status(ctx context.Context) (Status, error) {
	st, known, err := s.status(ctx)
	if err != nil || known == nil || known.bound == nil || st.State == StateDead {
		return st, err
	}
	if err := s.cfg.check(known.rec); errors.Is(err, ErrMisconfigured) {
		st.State, st.RetryAt, st.Err = StateOutage, time.Time{}, err
	}
	return st, nil
}

// status is Status, and also returns what it describes, or nil. It does not look at keys.
func (s *Source) status(ctx context.Context) (st Status, known *snapshot, err error) {
	known = s.cur.Load()
	key, rec, _, err := s.entry.Locate(ctx)
	switch gone := errors.Is(err, tokencache.ErrNoTrace); {
	case gone && s.puttable() != nil:
		err = nil // It will be put back.
	case gone && s.mayReturn(ctx, err):
	case errors.Is(err, tokencache.ErrNotFound):
		known, err = nil, nil
	}
	st = Status{State: StateEmpty, Key: key, KeyPlace: s.cfg.Cache.KeyPlace()}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.unsaved != nil: // Memory has the newest state.
		known, rec = s.cur.Load(), nil
	case err != nil:
		return st, nil, storageError("status", err)
	case rec != nil && (known == nil || newer(rec, known.rec)):
		known = s.snapshot(rec)
	}
	if known == nil {
		return st, nil, nil
	}
	st.describe(known)
	if rec != nil && newer(known.rec, rec) {
		rec = nil // Memory has replaced it.
	}
	if rec != nil && rec.Attempt != nil {
		st.AttemptAt = rec.Attempt.At
	}
	st.State, st.RetryAt, st.Err = s.stateOf(known, rec)
	return st, known, nil
}

// describe fills in what is known about the tokens.
func (st *Status) describe(snap *snapshot) {
	r := snap.rec
	st.Scope, st.Generation = text.Printable(r.Scope), r.Generation
	st.AuthorizedAt, st.ObtainedAt, st.Expiry, st.RefreshExpiry = r.AuthorizedAt, r.ObtainedAt, r.Expiry, r.RefreshExpiry
	if !r.Expiry.IsZero() || !r.RefreshAt.IsZero() {
		st.RefreshAt = time.Unix(0, snap.refreshAt)
	}
}

// stateOf returns the state of a login whose token is in snap and whose stored record is rec,
// or nil. s.mu is held.
func (s *Source) stateOf(snap *snapshot, rec *tokencache.Record) (state State, retryAt time.Time, why error) {
	now := wallNow()
	blocked := s.blocked(now, false)
	switch {
	case s.unsaved != nil:
		return StateUnsaved, time.Time{}, s.unsaved
	case rec != nil && rec.Tombstone != nil:
		return StateDead, time.Time{}, deadError(rec)
	case s.dead != nil && s.refused != nil && snap.rec.RefreshToken == s.refused.RefreshToken:
		return StateDead, time.Time{}, s.dead // The tombstone could not be written.
	case s.outage != nil && blocked != nil:
		return StateOutage, blocked.RetryAt, blocked
	case snap.fresh(now):
		return StateFresh, time.Time{}, nil
	case rec != nil && heldBack(rec):
		return StateOutage, time.Time{}, copyError(rec)
	case snap.usable(now):
		return StateStale, time.Time{}, nil
	}
	return StateExpired, time.Time{}, nil
}
