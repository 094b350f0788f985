package endpoint

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// longestLife is the longest life that a token may claim. Nothing lives that long; a
	// larger number is a mistake, and times far in the future overflow.
	longestLife = 10 * 365 * 24 * time.Hour

	// A number from unixTime on, which is 30 years in seconds, says when and not how long;
	// one from unixMillis on counts milliseconds.
	unixTime   = 30 * 365 * 24 * 3600
	unixMillis = 1e12
)

// expiry returns the time that the first usable one of the members gives: a number of seconds
// from the request on (RFC 6749 section 5.1; counting from the answer would err on the unsafe
// side), or a time, which must be in the future. The zero Time means unknown: nothing that
// these members hold is a reason to lose the tokens beside them.
func (a *answer) expiry(names ...string) time.Time {
	for _, name := range names {
		if life := a.life(strings.TrimSpace(a.members.text(name))); life > 0 {
			return a.sentAt.Add(min(life, longestLife))
		}
	}
	return time.Time{}
}

// madeAt returns the time from which the lives of tokens are counted: that of the request or,
// if the answer took longer than requests usually take, the Date of the answer (RFC 9110
// section 6.6.1), if that is plausible. A token whose request waited in the queue of a frozen
// provider would otherwise seem old when it comes.
func (a *answer) madeAt() time.Time {
	made, err := http.ParseTime(a.header.Get("Date"))
	if err != nil || a.at.Sub(a.sentAt) < requestTimeout || made.Before(a.sentAt) || made.After(a.at) {
		return a.sentAt
	}
	return made
}

// life returns how long after the request a token lives, or 0.
func (a *answer) life(text string) time.Duration {
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return dateOf(text).Sub(a.sentAt) // which saturates
	case !(n > 0): // also for NaN
		return 0
	case n < unixTime && n < longestLife.Seconds():
		return time.Duration(n * float64(time.Second))
	case n < unixTime:
		return longestLife
	case n >= unixMillis:
		n /= 1000
	}
	if n -= float64(a.sentAt.Unix()); n < longestLife.Seconds() {
		return time.Duration(n * float64(time.Second))
	}
	return longestLife
}

// dateOf reads a time in ISO 8601 that names its zone (RFC 3339). What it cannot read is
// the zero Time.
func dateOf(text string) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	return time.Time{}
}
