package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/entry"
)

// A Kind says how a program should react to an error. Kinds are errors themselves, for use with
// errors.Is: errors.Is(err, transport.ErrLoginRequired).
type Kind string

// The kinds of errors. Only ErrLoginRequired needs the user.
const (
	// ErrLoginRequired: nothing is stored, or the provider has refused the refresh token
	// for good. Only a new login helps, and the network is not used until there is one.
	ErrLoginRequired Kind = "login required"

	// ErrMisconfigured: the program or the registration of the client at the provider
	// is wrong. The login is kept; the error says what to fix.
	ErrMisconfigured Kind = "misconfigured"

	// ErrUnavailable: the provider could not be reached, or throttles the client, or another
	// process has worked on the login for too long (Op "lock"). The refresh token was not
	// spent.
	ErrUnavailable Kind = "provider unavailable"

	// ErrAmbiguous: a request was sent, but no usable answer came back. The refresh token
	// may have been spent; it is presented again soon, a few times.
	ErrAmbiguous Kind = "outcome unknown"

	// ErrStorage: the token cache could not be read, locked or written, or is a copy of
	// another one (tokencache.ErrCopy). The cause wraps an error of package tokencache.
	ErrStorage Kind = "token cache"
)

// Error makes a Kind usable with errors.Is.
func (k Kind) Error() string { return string(k) }

// An Error is the error of every function of this package that fails for a reason of its own.
// It never contains a token, a client secret, a request or a body.
type Error struct {
	Kind Kind
	Op   string // What was being done: "refresh", "exchange", "revoke", "config", ...

	Field  string // The configuration field at fault, if any.
	Remedy string // What to do about it, if that is known.

	// The answer of the token endpoint (RFC 6749 section 5.2), if there was one.
	Status      int    // HTTP status
	Code        string // the "error" member
	Description string // "error_description", cleaned, at most 200 bytes
	URI         string // "error_uri", a page about the error: an http or https URL

	// Claims, with ErrLoginRequired, is what the next login has to ask for: the value of
	// the "claims" parameter of its authorization request (OpenID Connect Core section
	// 5.5), as demanded by an API or the provider.
	Claims string

	// ReuseSuspected, with ErrLoginRequired, says that the refused refresh token may have
	// been spent before: by a refresh that was interrupted, by a process that had found an
	// older state of the login in the store, or by somebody who has a copy of it. Remedy
	// says which.
	ReuseSuspected bool

	// RetryAfter is how long the provider asked to wait. RetryAt is when the next attempt
	// will be made; the zero Time means that none is planned.
	RetryAfter time.Duration
	RetryAt    time.Time

	Err error // The cause, if any.
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

// whole reports whether the provider sent a complete answer that was not understood.
func (e *Error) whole() bool {
	return e.Kind == ErrAmbiguous && e.Status != 0 && e.Status/100 != 5 && !errors.Is(e.Err, io.ErrUnexpectedEOF)
}

// Timeout reports whether the cause is a deadline that has passed, as net.Error
// and url.Error do.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// storageError describes a failure of the cache. The store of package external has errors of its
// own.
func storageError(op string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	e := &Error{Kind: ErrStorage, Op: op, Err: err}
	if errors.Is(err, tokencache.ErrCorrupt) {
		e.Remedy = "bring the record, or the key that seals it, back from a backup; or remove the login with Forget, which leaves its tokens alive, and log in again"
	}
	return e
}

// asError returns err as an *Error. If a Refresher returns anything else, nothing is known
// about its failure.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: ErrAmbiguous, Op: "refresh", Err: err}
}

// crashed describes the panic of a Refresher, a Store or a RoundTripper. Its value may hold
// anything, so only the type is reported. Without a value, the goroutine ended by
// runtime.Goexit.
func crashed(panicked any) *Error {
	e := &Error{Kind: ErrAmbiguous, Op: "refresh", Err: errors.New("runtime.Goexit was called"),
		Remedy: "mend the Refresher, Store or RoundTripper that did it"}
	if panicked != nil {
		e.Err = fmt.Errorf("panic with a value of type %T", panicked)
	}
	return e
}

// repairTime is how soon what only a person can mend is tried again. A file that is missing may come,
// as a secret that is mounted late, and nothing is sent before; who was asked already is left alone.
func (e *Error) repairTime() time.Duration {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return soonest
	}
	return misconfiguredPause
}

// errUnanswered is the cause of the error that callers get when they have waited longest for an
// answer.
var errUnanswered = errors.New("no answer yet")

// lockError describes why a lock could not be taken.
func lockError(err error) *Error {
	busy, ok := errors.AsType[*entry.BusyError](err)
	switch {
	case !ok:
		return asError(storageError("lock", err))
	case errors.Is(busy.Err, context.Canceled):
		return &Error{Kind: ErrUnavailable, Op: "lock", Err: busy.Err, Remedy: "the call was canceled before it had the lock on this login"}
	case busy.Here:
		return &Error{Kind: ErrUnavailable, Op: "lock", Err: busy.Err, Remedy: "this login is busy; try again"}
	}
	return &Error{Kind: ErrUnavailable, Op: "lock", Err: busy.Err, Remedy: "another process is working on this login; try again"}
}

// lostError says that the store has lost logins, perhaps this one too, as err says.
func lostError(err error) error {
	if isLost(err) {
		return &Error{Kind: ErrStorage, Op: "load", Err: err, Remedy: "another process may put the login back within half a minute"}
	}
	return &Error{Kind: ErrStorage, Op: "load", Err: tokencache.ErrNoTrace, Remedy: "the store loses logins; another process may put this one back"}
}

// lostForGood returns why there is no token: nobody has put the login back if it is missing
// because the store has lost it.
func lostForGood(missing, why error) error {
	if isLost(missing) && errors.Is(why, ErrLoginRequired) {
		return &Error{Kind: ErrLoginRequired, Op: "load", Err: missing,
			Remedy: "no process has put the login back; log in again, and find out why the store loses logins"}
	}
	return why
}

// isLost reports whether the store knows that it has lost the login.
func isLost(err error) bool {
	_, lost := errors.AsType[*tokencache.LostError](err)
	return lost
}
