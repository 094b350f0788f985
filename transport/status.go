package transport

import (
	"context"
	"errors"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A State is what a Source would do if it were asked for a token now.
type State string

// The states of a Source.
const (
	StateEmpty   State = "empty"   // no login is stored
	StateFresh   State = "fresh"   // the token is good
	StateStale   State = "stale"   // it is good and will be refreshed at the next use
	StateExpired State = "expired" // it must be refreshed first
	StateOutage  State = "outage"  // the last refresh failed; the next may be tried at RetryAt
	StateUnsaved State = "unsaved" // refreshed, but the refresh token is only in memory
	StateDead    State = "dead"    // the provider has refused the refresh token: login required
)

// A Status describes a login without its secrets.
type Status struct {
	State State
	Key   tokencache.Key
	Scope string

	// KeyPlace is where the key is that seals the login in the cache, such as "OS
	// keyring"; see tokencache.Cache.KeyPlace.
	KeyPlace string

	AuthorizedAt  time.Time // when the user logged in
	ObtainedAt    time.Time // when the access token was obtained
	Expiry        time.Time // when the access token expires; zero: unknown
	RefreshAt     time.Time // when it will be refreshed; zero: when it is refused
	RefreshExpiry time.Time // when the refresh token expires; zero: unknown
	Generation    uint64    // how often the login has been refreshed

	RetryAt time.Time // in StateOutage
	Err     error     // in StateOutage, StateUnsaved and StateDead: why
}

// Status returns the state of the login. It asks the cache, never the provider.
// In the states outage and dead the access token may still be good.
func (s *Source) Status(ctx context.Context) (Status, error) {
	st := Status{State: StateEmpty, Key: s.key(), KeyPlace: s.cfg.Cache.KeyPlace()}
	snap := s.cur.Load()
	rec, _, err := s.cfg.Cache.Load(ctx, s.key())
	switch {
	case err == nil && (snap == nil || newer(rec, &snap.rec)):
		snap = s.snapshot(rec)
	case errors.Is(err, tokencache.ErrNotFound):
		err = nil
		snap = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsaved != nil { // Memory is the truth.
		snap, err = s.cur.Load(), nil
	}
	if err != nil {
		return st, storageError("status", err)
	}
	if snap == nil {
		return st, nil
	}
	r, now := &snap.rec, wallNow()
	st.Scope, st.Generation = r.Scope, r.Generation
	st.AuthorizedAt, st.ObtainedAt, st.Expiry, st.RefreshExpiry = r.AuthorizedAt, r.ObtainedAt, r.Expiry, r.RefreshExpiry
	if !r.Expiry.IsZero() || !r.RefreshAt.IsZero() {
		st.RefreshAt = time.Unix(0, snap.refreshAt)
	}
	switch {
	case s.unsaved != nil:
		st.State, st.Err = StateUnsaved, s.unsaved
	case rec != nil && rec.Tombstone != nil && !newer(r, rec):
		st.State, st.Err = StateDead, deadError(rec.Tombstone)
	case s.dead != nil && s.refused != nil && r.RefreshToken == s.refused.RefreshToken:
		st.State, st.Err = StateDead, s.dead // The tombstone could not be written.
	case s.waiting(now):
		st.State, st.Err, st.RetryAt = StateOutage, s.outage, s.outage.RetryAt
	case snap.fresh(now):
		st.State = StateFresh
	case snap.usable(now):
		st.State = StateStale
	default:
		st.State = StateExpired
	}
	return st, nil
}
