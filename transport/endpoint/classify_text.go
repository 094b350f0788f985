package endpoint

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/internal/renewal"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// retryAfter parses a Retry-After header: a number of seconds, or a date (RFC 9110 section
// 10.2.3). It returns 0 if it cannot.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if seconds > 0 { // not for NaN
			return time.Duration(min(seconds, renewal.LongestRetryAfter.Seconds()) * float64(time.Second))
		}
		return 0
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), renewal.LongestRetryAfter)
	}
	return 0
}

// clean makes text from an answer fit to be shown: cut short, in one line, and empty if it
// repeats a secret of the request or the answer, or a part of one.
func (a *answer) clean(raw string) string {
	clean := text.Clean(raw)
	if a.shows(clean) {
		return ""
	}
	return clean
}
