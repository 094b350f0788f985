// Package keycheck is what the tests of the KeyWrappers have in common: what
// tokencache.KeyWrapper promises, whoever holds the key.
package keycheck

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// NewKey returns a data key.
func NewKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
}

// Wrap wraps a data key, and checks that it comes back.
func Wrap(t *testing.T, w tokencache.KeyWrapper) (key []byte, wrapped tokencache.WrappedKey) {
	t.Helper()
	key = NewKey()
	wrapped, err := w.WrapKey(t.Context(), slices.Clone(key))
	if err != nil {
		t.Fatal(err)
	}
	if len(wrapped.KeyID) == 0 || len(wrapped.KeyID) > 1024 || len(wrapped.Data) > 8192 || bytes.Contains(wrapped.Data, key) {
		t.Errorf("wrapped: KeyID %q, and %d bytes of data", wrapped.KeyID, len(wrapped.Data))
	}
	Unwraps(t, w, wrapped, key)
	return key, wrapped
}

// Unwraps checks that a wrapped key is key.
func Unwraps(t *testing.T, w tokencache.KeyWrapper, wrapped tokencache.WrappedKey, key []byte) {
	t.Helper()
	if got, err := w.UnwrapKey(t.Context(), wrapped); err != nil || !bytes.Equal(got, key) {
		t.Errorf("unwrapped with %s: the same key: %v, error: %v", wrapped.KeyID, bytes.Equal(got, key), err)
	}
}

// Damaged checks that a wrapped key that was changed is ErrCorrupt, wherever it was.
func Damaged(t *testing.T, w tokencache.KeyWrapper) {
	t.Helper()
	key, wrapped := Wrap(t, w)
	flipped := func(at int) tokencache.WrappedKey {
		data := bytes.Clone(wrapped.Data)
		data[at] ^= 1
		return tokencache.WrappedKey{KeyID: wrapped.KeyID, Data: data}
	}
	for what, damaged := range map[string]tokencache.WrappedKey{
		"its end is changed":   flipped(len(wrapped.Data) - 1),
		"its middle changed":   flipped(len(wrapped.Data) - 20),
		"it is cut short":      {KeyID: wrapped.KeyID, Data: wrapped.Data[:len(wrapped.Data)-9]},
		"it is empty":          {KeyID: wrapped.KeyID},
		"it is something else": {KeyID: wrapped.KeyID, Data: []byte("something else")},
		"nothing is there":     {},
		"the key has no name":  {Data: wrapped.Data},
		"it is another key's":  {KeyID: "another-key", Data: wrapped.Data},
	} {
		_, err := w.UnwrapKey(t.Context(), damaged)
		if !errors.Is(err, tokencache.ErrCorrupt) || errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("unwrapped although %s: %v", what, err)
		}
		Silent(t, err, key, wrapped)
	}
	Unwraps(t, w, wrapped, key)
}

// Unavailable checks that the key cannot be used now, and that the error says so.
func Unavailable(t *testing.T, w tokencache.KeyWrapper, wrapped tokencache.WrappedKey, says string) {
	t.Helper()
	key := NewKey()
	_, err := w.WrapKey(t.Context(), key)
	CannotUse(t, err, says)
	Silent(t, err, key, wrapped)
	CannotUnwrap(t, w, wrapped, says)
}

// CannotUnwrap is Unavailable for a key that still wraps.
func CannotUnwrap(t *testing.T, w tokencache.KeyWrapper, wrapped tokencache.WrappedKey, says string) {
	t.Helper()
	_, err := w.UnwrapKey(t.Context(), wrapped)
	CannotUse(t, err, says)
	Silent(t, err, nil, wrapped)
}

// CannotUse checks that err is ErrUnavailable and says something.
func CannotUse(t *testing.T, err error, says string) {
	t.Helper()
	if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), says) {
		t.Errorf("%v\nwant ErrUnavailable that says %q", err, says)
	}
}

// NoAnswer checks that a caller waits no longer for a silent server than its context says.
func NoAnswer(t *testing.T, w tokencache.KeyWrapper, wrapped tokencache.WrappedKey) {
	t.Helper()
	for _, call := range []func(ctx context.Context) error{
		func(ctx context.Context) error { _, err := w.WrapKey(ctx, NewKey()); return err },
		func(ctx context.Context) error { _, err := w.UnwrapKey(ctx, wrapped); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		begun := time.Now()
		err := call(ctx)
		cancel()
		if took := time.Since(begun); took > 15*time.Second {
			t.Errorf("a caller that waits 300 ms got its answer after %v", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error does not wrap that of the context: %v", err)
		}
		CannotUse(t, err, "")
		Silent(t, err, nil, wrapped)
	}
}

// Silent checks that err tells neither the key nor the wrapped key, however it is printed.
func Silent(t *testing.T, err error, key []byte, wrapped tokencache.WrappedKey) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		text += fmt.Sprintf(" %#v", e)
	}
	for _, secret := range [][]byte{key, wrapped.Data} {
		if len(secret) == 0 {
			continue
		}
		for _, form := range []string{string(secret), base64.StdEncoding.EncodeToString(secret), hex.EncodeToString(secret), fmt.Sprint(secret)} {
			if strings.Contains(text, form) {
				t.Errorf("an error tells a key: %s", text)
			}
		}
	}
}
