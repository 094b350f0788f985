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

	"golang.org/x/oauth2"
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

// Unquoted returns err, or what may be said of it if it quotes an address, a request or an
// answer: an error of a key service, whose client may get a token of its own by package oauth2.
func Unquoted(err error) error {
	if quoted, ok := errors.AsType[*url.Error](err); ok {
		err = Safe(quoted)
	}
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case !ok:
		return err
	case refused.Response == nil:
		return errors.New("a token request failed")
	}
	return fmt.Errorf("a token request was answered with status %d", refused.Response.StatusCode)
}

// RefusesCertificate reports whether err is an alert by which a server refuses the certificate of
// the client, or the lack of one (RFC 8446 section 6.2). In TLS 1.3 it may come after the request
// was sent, which the server has not read then: it ends the handshake.
func RefusesCertificate(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	if !ok || e.Op != "remote error" || e.Err == nil || reflect.TypeOf(e.Err).Kind() != reflect.Uint8 { // The type is not exported.
		return false
	}
	switch reflect.ValueOf(e.Err).Uint() {
	case 42, 43, 44, 45, 46, 48, 49, 116: // from bad_certificate to access_denied, certificate_required
		return true
	}
	return false
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
