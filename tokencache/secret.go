package tokencache

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
)

// A Secret is a string that does not print: fmt, encoding/json and log/slog show "[redacted]"
// instead, or nothing if it is empty. Convert it to a string to use it. Comparing it with == is
// meant for tokens that the process already holds, not for authenticating anybody.
type Secret string

// hidden is a value that does not print at all, not even in an unexported field of another
// type, where fmt does not call methods: it is a function, of which fmt shows the address.
type hidden[T any] func() T

func hide[T any](v T) hidden[T] { return func() T { return v } }

const redacted = "[redacted]"

// String returns a placeholder.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString returns a placeholder.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// Format writes a placeholder whatever the verb.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		io.WriteString(f, s.GoString())
		return
	}
	io.WriteString(f, s.String())
}

// MarshalText returns a placeholder; encoding/json uses it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
