package upkeep

import (
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A user is asked to log in again a week before the login ends, or when a quarter of its life is
// left if that is shorter.
const longestNotice = 7 * 24 * time.Hour

// leastElapsed is the shortest time between two refreshes that shows whether the second has
// postponed the end: answers count in seconds.
const leastElapsed = 10 * time.Second

// Ending returns when a login ends whatever is done, if it is time to ask the user to log in
// again and that was not done yet. It is before, a refresh has brought answer, and lifetime is how
// long any login of the provider lives, or 0. Otherwise it returns the end that was announced, or
// zero.
func Ending(before, answer *tokencache.Record, lifetime time.Duration, now time.Time) time.Time {
	var end time.Time
	if lifetime > 0 && !before.AuthorizedAt.IsZero() {
		end = before.AuthorizedAt.Add(lifetime)
	}
	if !postponed(before, answer) && (end.IsZero() || answer.RefreshExpiry.Before(end)) {
		end = answer.RefreshExpiry
	}
	notice := longestNotice
	if !before.AuthorizedAt.IsZero() {
		notice = min(notice, end.Sub(before.AuthorizedAt)/4)
	}
	switch {
	case end.IsZero(), now.Before(end.Add(-notice)), now.After(end): // If it has passed, it was not the end.
		return before.EndingAt
	case !before.EndingAt.IsZero() && end.Sub(before.EndingAt) < notice:
		return before.EndingAt
	}
	return end
}

// postponed reports whether the refresh has postponed the end of the refresh token, as far as
// that can be told. With most providers each does; where it does not, the end is that of the
// login.
func postponed(before, answer *tokencache.Record) bool {
	elapsed := answer.ObtainedAt.Sub(before.RenewedAt())
	if before.RefreshExpiry.IsZero() || answer.RefreshExpiry.IsZero() || before.RenewedAt().IsZero() || elapsed < leastElapsed {
		return true
	}
	return answer.RefreshExpiry.Sub(before.RefreshExpiry) > elapsed/2
}
