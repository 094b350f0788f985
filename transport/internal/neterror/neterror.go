// Package neterror describes what is wrong with a connection without revealing a secret.
package neterror

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
)

// Safe returns the part of err that describes a connection. Other errors of net/http and of
// foreign code may quote what was sent or received, so only their type is reported.
func Safe(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok { // It quotes the URL.
		return Safe(e.Err)
	}
	if e, ok := errors.AsType[net.Error](err); ok && ofStandardLibrary(e) { // Timeouts of contexts are among them.
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
	// For the refusal of a proxy, http.Transport has no error type, only the text of the
	// status line. A standard text is no secret, wherever it comes from.
	for code := http.StatusMultipleChoices; code < 600; code++ {
		if text := http.StatusText(code); text != "" && strings.EqualFold(text, err.Error()) {
			return errors.New("the proxy answered: " + text)
		}
	}
	return TypeOf(err)
}

// TypeOf returns what can be said about an error whose text cannot be trusted.
func TypeOf(err error) error {
	types := fmt.Sprintf("%T", err)
	for err = errors.Unwrap(err); err != nil; err = errors.Unwrap(err) {
		types += fmt.Sprintf(" of %T", err)
	}
	return errors.New("an error of type " + types)
}

// ofStandardLibrary reports whether the type of err is one of the standard library. Those that
// describe connections hold addresses; other types may hold anything.
func ofStandardLibrary(err error) bool {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	root, _, _ := strings.Cut(t.PkgPath(), "/")
	switch root {
	case "context", "crypto", "internal", "net", "os", "syscall", "vendor":
		return true
	}
	return false
}
