package transport

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/internal/text"
	"github.com/stayauth/stayauth/transport/internal/upkeep"
)

// A Token is an access token for immediate use. Its secret prints as "[redacted]".
type Token struct {
	AccessToken tokencache.Secret
	Type        string    // "Bearer", or "DPoP" if only a Transport can use it, see Prover
	Expiry      time.Time // zero: unknown
	Scope       string    // granted scopes, separated by spaces; empty: unknown
}

// A snapshot is a record in the form that the hot path needs. It is never modified. A process
// may have very many of them, so the access token, which may be kilobytes long, is held once,
// and what a request needs lies side by side, apart from the rest of the record.
type snapshot struct {
	header [1]string // the value of the Authorization header: scheme and token

	// The token is fresh from notBefore until refreshAt, and usable until useBefore: wall
	// clock times in nanoseconds since 1970, so that a laptop's sleep counts.
	notBefore, refreshAt, useBefore int64

	// bound is nil for a bearer token. Otherwise the token is good only with proofs that the
	// key in it has signed; it is nil until a request needs it, see SourceConfig.proofKey.
	bound *atomic.Pointer[dpop.Key]

	rec      *tokencache.Record
	saved    tokencache.Version // where this process has put rec into the cache; "": it comes from there, or is not there
	rejected bool               // an API has rejected the token

	// renewBy is when the refresh token has to be renewed, if it ends before the access
	// token does.
	renewBy int64
}

// The schemes of access tokens (RFC 6750 section 2.1, RFC 9449 section 7.1).
const (
	scheme      = "Bearer "
	schemeBound = "DPoP "
)

// The lowest age at which a rejected token is replaced, and the shortest time between two such
// replacements.
const (
	minRejectedAge = 3 * time.Second
	forcedInterval = 30 * time.Second
)

// clockTolerance is how far in the future a token may have been obtained before the clock
// counts as set back.
const clockTolerance = time.Minute

// youth is how long a process has to use a login before it counts as one that does not end
// soon.
const youth = time.Minute

// wallNow returns the time without its monotonic reading, which stands still
// while a machine sleeps.
func wallNow() time.Time { return time.Now().Round(0) }

// within reports whether now is before t, but not by more than near: in that case the clock was
// set back, and t means nothing.
func within(now, t time.Time, near time.Duration) bool {
	return now.Before(t) && t.Sub(now) <= near
}

// A pause is over at a time, or as soon as the clock is set back to before it began.
type pause struct{ from, until time.Time }

func (p pause) lasts(now time.Time) bool {
	const slack = time.Second // between goroutines, and for a clock that is nudged
	return within(now, p.until, p.until.Sub(p.from)+slack)
}

// newSnapshot returns the snapshot of rec, and decides when it is to be refreshed: lead before
// its expiry, or when the provider says so, and by skew before its expiry at the latest.
// Without a lead it is a third of the token's life, at most 5 minutes, shortened by up to a
// fifth at random; without a skew it is a tenth, at most 10 seconds. A refresh token that ends
// before its access token is renewed in time too.
func newSnapshot(rec *tokencache.Record, lead, skew time.Duration) *snapshot {
	scheme, bound := scheme, (*atomic.Pointer[dpop.Key])(nil)
	if _, thumbprint := rec.Proof(); thumbprint != "" {
		scheme, bound = schemeBound, new(atomic.Pointer[dpop.Key])
	}
	header := scheme + string(rec.AccessToken)
	kept := *rec
	kept.AccessToken = tokencache.Secret(header[len(scheme):])
	s := &snapshot{
		header:    [1]string{header},
		bound:     bound,
		rec:       &kept,
		notBefore: math.MinInt64,
		refreshAt: math.MaxInt64,
		useBefore: math.MaxInt64,
		renewBy:   math.MaxInt64,
	}
	if rec.AccessToken == "" || rec.Claims != "" {
		s.refreshAt, s.useBefore, s.rejected = math.MinInt64, math.MinInt64, rec.Claims != ""
		return s
	}
	if !rec.ObtainedAt.IsZero() {
		s.notBefore = nanoseconds(rec.ObtainedAt.Add(-clockTolerance))
	}
	if rec.Attempt != nil {
		// A record whose journal has a refresh in flight is not fresh: if no process is
		// working on it, the refresh was interrupted, and has to be made up for while
		// the provider still forgives.
		s.notBefore = math.MaxInt64
	}
	if !rec.RefreshAt.IsZero() {
		s.refreshAt = nanoseconds(rec.RefreshAt)
	}
	defer s.renew(rec)
	if rec.Expiry.IsZero() {
		return s // Unknown, not infinite: good until an API rejects it.
	}
	lifetime := 10 * time.Minute // a guess, for records that do not say
	if !rec.ObtainedAt.IsZero() {
		lifetime = max(rec.Expiry.Sub(rec.ObtainedAt), 0)
	}
	if skew == 0 {
		skew = min(lifetime/10, 10*time.Second)
	}
	s.useBefore = nanoseconds(rec.Expiry.Add(-min(skew, lifetime/4)))
	if rec.RefreshAt.IsZero() {
		if lead == 0 {
			lead = defaultLead(lifetime)
		}
		lead = min(lead, lifetime/2)
		s.refreshAt = nanoseconds(rec.Expiry.Add(-jittered(lead)))
	}
	s.refreshAt = min(s.refreshAt, s.useBefore)
	return s
}

func defaultLead(lifetime time.Duration) time.Duration { return min(lifetime/3, 5*time.Minute) }

// jittered shortens a lead by up to a fifth, so that processes do not all refresh at once.
func jittered(lead time.Duration) time.Duration {
	return lead - time.Duration(rand.Int64N(int64(lead)/5+1))
}

// shortestRefreshLife is the shortest remaining life of a refresh token that is renewed before
// it ends: where a refresh cannot put off the end of a login, each answer leaves a shorter
// life.
const shortestRefreshLife = 2 * time.Second

// renew brings the refresh forward if the refresh token ends before the access token: with some
// providers it does when a session was idle for a while (refresh_expires_in).
func (s *snapshot) renew(rec *tokencache.Record) {
	if rec.RefreshExpiry.IsZero() || rec.ObtainedAt.IsZero() || rec.RefreshToken == "" {
		return
	}
	life := rec.RefreshExpiry.Sub(rec.ObtainedAt)
	if life < shortestRefreshLife {
		return
	}
	s.renewBy = nanoseconds(rec.RefreshExpiry.Add(-jittered(defaultLead(life))))
	s.refreshAt = min(s.refreshAt, s.renewBy)
}

// refreshTokenEnds reports whether a refresh is due because the refresh token is about to end.
func (s *snapshot) refreshTokenEnds(now time.Time) bool { return now.UnixNano() >= s.renewBy }

// turnTime is how far apart KeepFresh refreshes the logins of a process that are due together,
// if there is time for that.
const turnTime = 20 * time.Second

// turn reports whether it is the login's turn in a pass of KeepFresh from last to now, in which
// its token is not fresh. When an outage is over, very many logins are due in very many processes
// that do not know of each other, and must not come all at once. So each has times of its own, as
// in package upkeep: the first soon after its refresh is due, well before the token expires, and
// if that was missed, one in the life of a token. A request that needs a token does not wait.
func (s *snapshot) turn(account string, logins int, last, now time.Time) bool {
	spread := time.Hour // if no token is known, because the cache had none that is good
	few := time.Duration(logins) * turnTime
	if s != nil {
		if s.rejected || s.rec.Attempt != nil || s.rec.Expiry.IsZero() || s.rec.ObtainedAt.IsZero() || s.refreshTokenEnds(now) {
			return true
		}
		spread = s.rec.Expiry.Sub(s.rec.ObtainedAt)
		due := time.Unix(0, s.refreshAt)
		if due.After(now) { // The clock was set back.
			due = last
		}
		// Without the jitter, so that all processes agree.
		first := upkeep.Next(account, max(min(defaultLead(spread)/2, time.Duration(s.useBefore-s.refreshAt)/4*3, few), 1), due)
		if last.Before(first) {
			return !first.After(now)
		}
	}
	spread = min(spread, few)
	return spread <= 0 || !upkeep.Next(account, spread, last).After(now)
}

// nanoseconds returns t.UnixNano, or the nearest value that exists: some providers write the
// year 9999 for "never".
func nanoseconds(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// ended returns the snapshot of no login. Each call returns another pointer, which differs from
// all before it.
func ended() *snapshot { return newSnapshot(new(tokencache.Record), 0, 0) }

// same reports whether both are the same state of the login, whatever APIs have said of its token.
func (s *snapshot) same(t *snapshot) bool {
	return s != nil && t != nil && s.rec.AccessToken != "" && s.rec.LoginID == t.rec.LoginID && s.rec.Generation == t.rec.Generation && s.rec.AccessToken == t.rec.AccessToken
}

// fresh reports whether the token can be used without further thought.
func (s *snapshot) fresh(now time.Time) bool { return s.freshAt(now.UnixNano()) }

func (s *snapshot) freshAt(now int64) bool {
	return s != nil && s.notBefore <= now && now < s.refreshAt
}

// usable reports whether the token can be used, if only until its refresh.
func (s *snapshot) usable(now time.Time) bool {
	return s != nil && now.UnixNano() < s.useBefore
}

// misdated reports whether the token was obtained in the future, as far as the clock says. Then it
// was ahead, or is behind, and nobody knows until when the token is good.
func (s *snapshot) misdated(now time.Time) bool {
	return now.Before(s.rec.ObtainedAt.Add(-clockTolerance))
}

// expiredBefore reports whether there is no token, or one that had expired at that time.
func (s *snapshot) expiredBefore(t time.Time) bool {
	return s.rec.AccessToken == "" || !s.rec.Expiry.IsZero() && s.rec.Expiry.Before(t.Round(0))
}

// reject returns a copy that is to be replaced. It stays usable: that one API rejects it says
// nothing about the others, and perhaps there is no other token.
func (s *snapshot) reject() *snapshot {
	c := *s
	c.refreshAt, c.rejected = math.MinInt64, true
	return &c
}

// replaceableAt returns the time before which a rejection of the token is ignored, so that an
// API that rejects everything causes no storm of refreshes. One that demands claims of a new
// token is heeded sooner, and one of a token that is older than the client's certificate, to which
// it cannot be bound, at once.
func (s *snapshot) replaceableAt(claims string, changed time.Time) time.Time {
	var at time.Time
	if s.rec.ObtainedAt.Before(changed) {
		return at
	}
	if claims == "" {
		at = s.rec.ObtainedAt.Add(minRejectedAge)
	}
	if !s.rec.ForcedAt.IsZero() {
		if t := s.rec.ForcedAt.Add(forcedInterval); t.After(at) {
			at = t
		}
	}
	if at.After(wallNow().Add(forcedInterval)) {
		return time.Time{} // The clock was set back.
	}
	return at
}

func (s *snapshot) token() Token {
	t := Token{AccessToken: s.rec.AccessToken, Type: "Bearer", Expiry: s.rec.Expiry,
		Scope: text.Printable(s.rec.Scope)} // Records of earlier versions may hold it as it came.
	if s.bound != nil {
		t.Type = "DPoP"
	}
	return t
}

// newer is NewerThan.
func newer(a, b *tokencache.Record) bool { return a.NewerThan(b) }
