package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
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
// if it repeats a secret of the request or of the answer.
func (a *answer) clean(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == utf8.RuneError {
			return -1
		}
		return c
	}, text)
	m := a.members
	for _, secret := range append([]string{m.text("access_token"), m.text("refresh_token"), m.text("id_token")}, a.sent...) {
		if secret != "" && (strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret))) {
			return ""
		}
	}
	if len(text) > maxDescription {
		end := maxDescription
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	return text
}

// saysReuse reports whether a provider gives as its reason for a refusal that the
// refresh token was spent before. Most do not tell.
func saysReuse(code, description string) bool {
	text := strings.ToLower(strings.ReplaceAll(code, "_", " ") + " " + description)
	for _, sign := range []string{"reuse", "already used", "already been used", "already exchanged", "replay", "stale token"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// connectionError returns the part of err that describes a connection. Other
// errors of net/http and of foreign code may quote what was sent or received, so
// that only their type is told.
func connectionError(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok { // It quotes the URL.
		return connectionError(e.Err)
	}
	if e, ok := errors.AsType[net.Error](err); ok { // Timeouts of contexts are among them.
		return e
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e
	}
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return e
	}
	for _, known := range []error{context.Canceled, io.EOF, io.ErrUnexpectedEOF, http.ErrSchemeMismatch} {
		if errors.Is(err, known) {
			return known
		}
	}
	types := fmt.Sprintf("%T", err)
	for err = errors.Unwrap(err); err != nil; err = errors.Unwrap(err) {
		types += fmt.Sprintf(" of %T", err)
	}
	return errors.New("an error of type " + types)
}
