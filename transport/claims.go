package transport

import (
	"context"
	"errors"
	"log/slog"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/claims"
)

// An API may refuse a token before its time and say which claims the next one must
// have, in Microsoft's continuous access evaluation: the user's password was changed, or
// the machine has moved to another network. Such a token is good for nothing any more.
// The demand is kept in the record, so that whoever reads it leaves the token alone, and
// that whoever refreshes it asks for the claims.

// takeOut takes the token of snap, which is the one in use, out of use until there is
// another. s.mu is held.
func (s *Source) takeOut(snap *snapshot, demanded string) {
	s.cur.Store(s.snapshot(withClaims(snap.rec, demanded)))
	s.claimed = true
}

// withClaims returns rec with a demand, together with one that it may have.
func withClaims(rec *tokencache.Record, demanded string) *tokencache.Record {
	all, err := claims.Merge(rec.Claims, demanded)
	if err != nil || len(all) > claims.MaxLen { // The later one is what the API says now.
		all = demanded
	}
	rec = rec.Clone()
	rec.Claims = all
	return rec
}

// loginFor returns err with the demand on rec, if err says that only a login helps.
func loginFor(rec *tokencache.Record, err error) error {
	if rec == nil || rec.Claims == "" || !errors.Is(err, ErrLoginRequired) {
		return err
	}
	e := *asError(err)
	e.Claims, e.Remedy = rec.Claims, claimsRemedy
	return &e
}

const claimsRemedy = "log in again, and ask for the Claims of this error: an API or the provider demands them"

// demanding returns rec with the demand that is known of its token.
func demanding(rec, known *tokencache.Record) *tokencache.Record {
	if known.Claims == "" || known.AccessToken != rec.AccessToken || claims.Covers(rec.Claims, known.Claims) {
		return rec
	}
	return withClaims(rec, known.Claims)
}

// tellClaims writes a demand into the cache, for the other processes, also while the
// provider is down. If that fails, the token is out of use here, and they learn it from
// the API.
func (s *Source) tellClaims(ctx context.Context) {
	s.mu.Lock()
	due := s.claimed
	s.mu.Unlock()
	if !due {
		return
	}
	unlock, err := s.lockBy(ctx, s.cfg.Cache.Lock)
	if err == nil {
		defer unlock()
		err = s.saveClaims(ctx)
	}
	if err != nil {
		s.log(ctx, slog.LevelDebug, "the claims that an API demands could not be stored", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claimed = false
}

// saveClaims writes the record that load has found to have a demand. The lock is held.
func (s *Source) saveClaims(ctx context.Context) error {
	rec, version, err := s.load(ctx)
	switch {
	case err != nil:
		return err
	case rec == nil || rec.Claims == "":
		return nil // The login has ended, or has another token by now.
	}
	if s.pending != nil {
		return nil // The saver will.
	}
	_, err = s.cfg.Cache.Save(ctx, s.key(), rec, version)
	return err
}
