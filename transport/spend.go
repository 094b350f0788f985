package transport

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/renewal"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// lostRequestTime is how long a request may still be under way whose sender has died, or
// whose connection broke. If ours overtook it, the provider would take ours for the older
// one, and what we store would be dead. A provider's grace is longer, by far.
const lostRequestTime = time.Second

// awaitLostRequest waits until a request that was sent at the given time, and for whose
// answer nobody waits, has been dealt with by the provider.
func awaitLostRequest(ctx context.Context, sent time.Time) {
	if wait := min(sent.Add(lostRequestTime).Sub(wallNow()), lostRequestTime); wait > 0 {
		sleep.For(ctx, wait)
	}
}

// promptRetries is how often a refresh token is presented again at once after an
// attempt with an unknown outcome. Most providers accept a spent token again for
// some seconds, just for this case.
const promptRetries = 2

// retryNow reports whether to present the refresh token once more after an attempt
// that failed, and waits until it is time to.
func (s *Source) retryNow(ctx context.Context, cur *tokencache.Record, try int, sent time.Time, cause *Error) bool {
	s.mu.Lock()
	lost := s.outage != nil && s.outage.lost
	s.mu.Unlock()
	switch {
	case cause.Kind != ErrAmbiguous, cause.RetryAfter > 0:
		return false
	case lost:
		return false // It has been done, and the outage has outlasted any grace.
	case cause.whole():
		return false // The next answer will be no better.
	}
	if cur != nil && cur.RefreshToken != "" {
		awaitLostRequest(ctx, sent)
	}
	if !sleep.For(ctx, time.Duration(1+rand.Int64N(int64(500*time.Millisecond)))<<try) {
		return false
	}
	return s.probe(ctx, askTime) == nil
}

// successor returns the state of the login after the provider's answer.
func successor(cur, answer *tokencache.Record, refused tokencache.Secret) *tokencache.Record {
	now := wallNow()
	next := &tokencache.Record{LoginID: newLoginID(), AuthorizedAt: now}
	if cur != nil {
		next = cur.Clone()
	}
	next.Generation++
	next.Attempt, next.Tombstone, next.PutBackAt = nil, nil, time.Time{}
	if answer.AccessToken != "" && cur != nil {
		if refused != "" && cur.AccessToken == refused || cur.Claims != "" {
			next.ForcedAt = now
		}
		if cur.AccessToken != answer.AccessToken {
			next.Claims = ""
		}
	}
	renewal.Merge(next, answer)
	return next
}

// noAnswer handles an attempt that brought nothing. unknown says that the refresh
// token may have been spent by this attempt or by an earlier one. It reports
// whether to start over, because the cache holds something newer.
func (s *Source) noAnswer(ctx context.Context, cur *tokencache.Record, version tokencache.Version, unknown bool, cause *Error) (again bool, err error) {
	if cur == nil || cur.RefreshToken == "" {
		if cause.Kind == ErrLoginRequired {
			// Somebody else's login, of which no tombstone can remind us: ask again, but
			// not soon.
			c := *cause
			c.RetryAt = wallNow().Add(misconfiguredPause)
			cause = &c
		}
		return false, cause
	}
	if s.pending != nil && cause.Kind != ErrLoginRequired {
		if unknown { // There is no journal but memory.
			s.pending.rec = attempting(cur)
		}
		return false, cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	next := cur.Clone()
	next.Attempt = nil
	switch cause.Kind {
	case ErrLoginRequired:
		// Perhaps somebody without our lock was faster: a copy of the cache on another
		// machine, a program that does not know of locks. Then theirs is the login.
		stored, v, err := s.load(ctx)
		if err == nil && (stored == nil || stored.RefreshToken != cur.RefreshToken) {
			return true, nil
		}
		next.Tombstone = &tokencache.Tombstone{At: wallNow(), Code: cause.Code, Description: cause.Description, URI: cause.URI,
			Claims: cmp.Or(cause.Claims, cur.Claims), Interrupted: unknown}
		if err == nil {
			_, err = s.cfg.Cache.Save(ctx, s.key(), next, v)
		}
		if errors.Is(err, tokencache.ErrConflict) {
			return true, nil
		}
		if err != nil {
			s.log(ctx, slog.LevelWarn, "the refusal of the refresh token could not be stored", err)
		}
		s.settled(ctx, nil) // A dead refresh token need not be saved any more.
		s.mu.Lock()
		s.refused = next
		s.mu.Unlock()
		return false, deadError(next.Tombstone)
	case ErrUnavailable, ErrMisconfigured:
		if unknown {
			break
		}
		// Not spent for certain, so the note would mislead whoever reads it later.
		_, err := s.cfg.Cache.Save(ctx, s.key(), next, version)
		if err != nil && !errors.Is(err, tokencache.ErrConflict) {
			s.log(ctx, slog.LevelWarn, "the journal could not be cleared", err)
		}
	}
	return false, cause
}

// deadError says why a login is needed.
func deadError(t *tokencache.Tombstone) *Error {
	e := &Error{Kind: ErrLoginRequired, Op: "refresh", Code: t.Code, Description: t.Description, URI: t.URI, Claims: t.Claims, Remedy: "log in again"}
	switch {
	case t.Interrupted:
		e.ReuseSuspected = true
		e.Remedy = "an earlier refresh was interrupted before its answer could be saved, and the provider does not accept its refresh token again; log in again"
	case saysReuse(t.Code, t.Description):
		e.ReuseSuspected = true
		e.Remedy = "the provider says that the refresh token was used before: something that does not share this cache has a copy of the login; find out what, and log in again"
	case t.Claims != "":
		e.Remedy = claimsRemedy
	}
	return e
}

// saysReuse reports whether a provider gives as its reason for a refusal that the
// refresh token was spent before. Most do not tell.
func saysReuse(code, description string) bool {
	text := strings.ToLower(strings.ReplaceAll(code, "_", " ") + " " + description)
	// Not "stale token": Keycloak also says that when an administrator has revoked all
	// tokens of before a time, and then nobody has a copy.
	for _, sign := range []string{"reuse", "already used", "already been used", "already exchanged", "replay"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}
