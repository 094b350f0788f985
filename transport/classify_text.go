package transport

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// longestRetryAfter is how long a provider is believed to need: an answer from a
// broken proxy must not keep a program out for a day.
const longestRetryAfter = 10 * time.Minute

// retryAfter reads a Retry-After header: seconds, or a date (RFC 9110 section
// 10.2.3). It returns 0 for what it cannot read.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if seconds > 0 { // not for NaN
			return time.Duration(min(seconds, longestRetryAfter.Seconds()) * float64(time.Second))
		}
		return 0
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), longestRetryAfter)
	}
	return 0
}

// maxDescription is the length, in bytes, of the longest text that is taken over
// from an answer.
const maxDescription = 200

// clean makes text from an answer fit to be shown: short, in one line, and empty
// if it repeats a secret of the request or of the answer, or a part of one.
func (a *answer) clean(text string) string {
	text = strings.Join(strings.Fields(printable(text)), " ")
	if len(text) > maxDescription {
		end := maxDescription
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	if a.shows(text) {
		return ""
	}
	return text
}

// printable returns text in one line and without what a terminal takes for a command:
// escapes, and marks that change the direction of writing.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case !unicode.IsPrint(c) || c == utf8.RuneError:
			return -1
		}
		return c
	}, text)
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
