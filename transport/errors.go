package transport

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/internal/entry"
)

// A Kind says what an error asks of the program. Kinds are errors themselves, to
// be used with errors.Is: errors.Is(err, transport.ErrLoginRequired).
type Kind string

// The kinds of errors. Only the first needs the user.
const (
	// ErrLoginRequired: nothing is stored, or the provider has refused the refresh
	// token for good. Nothing but a new login helps, and no network is used until
	// there is one.
	ErrLoginRequired Kind = "login required"

	// ErrMisconfigured: the program or the registration of the client at the provider
	// is wrong. The login is kept; the error says what to fix.
	ErrMisconfigured Kind = "misconfigured"

	// ErrUnavailable: the provider was not reached, or asked to be left alone for a
	// while. The refresh token was not spent.
	ErrUnavailable Kind = "provider unavailable"

	// ErrAmbiguous: a request was sent and no usable answer came back. The refresh
	// token may have been spent; it is presented again soon, a few times.
	ErrAmbiguous Kind = "outcome unknown"

	// ErrStorage: the token cache could not be read, locked or written. The cause
	// wraps one of the errors of package tokencache.
	ErrStorage Kind = "token cache"
)

// Error makes a Kind usable with errors.Is.
func (k Kind) Error() string { return string(k) }

// An Error is what every function of this package returns when it fails on its
// own account. It never contains a token, a client secret, a request or a body.
type Error struct {
	Kind Kind
	Op   string // What was being done: "refresh", "exchange", "revoke", "config", ...

	Field  string // The configuration field that is at fault, if one is.
	Remedy string // What to do about it, if this package knows.

	// What the token endpoint answered (RFC 6749 section 5.2), if it did.
	Status      int    // HTTP status
	Code        string // the "error" member
	Description string // "error_description", cleaned, at most 200 bytes
	URI         string // "error_uri", a page about the error: an http or https URL

	// Claims is what the next login has to ask for, with ErrLoginRequired: the value of the
	// parameter "claims" of its authorization request (OpenID Connect Core section 5.5),
	// as an API or the provider demands it.
	Claims string

	// ReuseSuspected says, with ErrLoginRequired, that the refused refresh token may have
	// been spent before: by a refresh that was interrupted, or by somebody who has a copy
	// of the login. Remedy says which.
	ReuseSuspected bool

	// RetryAfter is how long the provider asks to wait. RetryAt is when the next
	// attempt will be made; the zero Time means that none is planned.
	RetryAfter time.Duration
	RetryAt    time.Time

	Err error // The cause, if there is one.
}

// Error says what happened and what to do about it, in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("stayauth")
	if e.Op != "" {
		b.WriteString(": " + e.Op)
	}
	if e.Field != "" {
		b.WriteString(" " + e.Field)
	}
	b.WriteString(": " + string(e.Kind))
	if e.Code != "" {
		b.WriteString(": " + e.Code)
	}
	if e.Description != "" {
		b.WriteString(": " + e.Description)
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if !e.RetryAt.IsZero() {
		b.WriteString("; next attempt at " + e.RetryAt.Format(time.RFC3339))
	}
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	if e.URI != "" {
		b.WriteString("; see " + e.URI)
	}
	return b.String()
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// whole reports whether the provider has answered, to the end, what was not understood.
func (e *Error) whole() bool {
	return e.Kind == ErrAmbiguous && e.Status != 0 && e.Status/100 != 5 && !errors.Is(e.Err, io.ErrUnexpectedEOF)
}

// Timeout reports whether the cause is a deadline that has passed, as net.Error
// and url.Error do.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// storageError describes a failure of the cache.
func storageError(op string, err error) error {
	return &Error{Kind: ErrStorage, Op: op, Err: err}
}

// asError returns err as an *Error. A Refresher that returns anything else has
// failed in a way that nothing is known about.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: ErrAmbiguous, Op: "refresh", Err: err}
}

// crashed describes the panic of a Refresher, a Store, a RoundTripper. Its value may
// hold anything, so only its type is told. Without one, the goroutine was ended.
func crashed(panicked any) *Error {
	e := &Error{Kind: ErrAmbiguous, Op: "refresh", Err: errors.New("runtime.Goexit was called"),
		Remedy: "mend the Refresher, Store or RoundTripper that did it"}
	if panicked != nil {
		e.Err = fmt.Errorf("panic with a value of type %T", panicked)
	}
	return e
}

// errUnanswered is the cause of what callers are told when they have waited for that long.
var errUnanswered = errors.New("no answer yet")

// lockError describes why a lock was not to be had.
func lockError(err error) *Error {
	busy, ok := errors.AsType[*entry.BusyError](err)
	switch {
	case !ok:
		return asError(storageError("lock", err))
	case busy.Here:
		return &Error{Kind: ErrUnavailable, Op: "lock", Err: busy.Err, Remedy: "this login is busy; try again"}
	}
	return &Error{Kind: ErrUnavailable, Op: "lock", Err: busy.Err, Remedy: "another process is working on this login; try again"}
}
