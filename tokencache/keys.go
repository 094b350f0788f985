package tokencache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/stayauth/stayauth/tokencache/gate"
)

// A KeySource supplies the keys that entries are sealed with: 32 random bytes each. The first
// key seals, and every one opens. A Cache asks once, and again only when it finds an entry that
// is sealed with a key it does not know. Errors should wrap ErrUnavailable (a locked keyring)
// or ErrCorrupt (a wrong passphrase).
//
// A source must not show a key when it is printed. If it is a fmt.Stringer, its String says, to
// people, where the keys are kept, see Cache.KeyPlace.
type KeySource interface {
	Keys(ctx context.Context) ([][]byte, error)
}

// A KeyRotator is a KeySource that can change its keys, for Cache.Rekey. Both methods are
// atomic: after a crash the old keys or the new keys are there. A KeyRotator belongs to one
// store, because DropOldKeys makes the entries of any other store unreadable.
type KeyRotator interface {
	// AddKey puts a new key before the present ones.
	AddKey(ctx context.Context) error
	// DropOldKeys forgets every key but the first.
	DropOldKeys(ctx context.Context) error
}

// A KeyWrapper protects data keys with a key that it never hands out: one in a KMS or an HSM,
// or the private half of a public key. Its methods are safe for concurrent use, and return
// promptly once ctx is done, which is after five seconds at most. Errors wrap ErrUnavailable (it
// cannot be reached, is throttled, or denies access) or ErrCorrupt (what was to be unwrapped is
// damaged, or was wrapped with a key that is not there), and hold no key.
type KeyWrapper interface {
	// WrapKey wraps a data key of 32 bytes with the newest key.
	WrapKey(ctx context.Context, key []byte) (WrappedKey, error)
	// UnwrapKey returns the data key that was wrapped. It accepts only keys that the
	// KeyWrapper was made for: whoever can write to the store chooses what w.KeyID says.
	UnwrapKey(ctx context.Context, w WrappedKey) (key []byte, err error)
}

// A WrappedKey is a data key that only its KeyWrapper can read. It is stored as it is, beside
// what it seals, and is no secret.
type WrappedKey struct {
	// KeyID names the key that Data is wrapped with, its version included, in at most
	// 1024 bytes: data keys are wrapped anew if it is not that of the newest key. So it
	// changes with the newest key, and only if an older one can be destroyed.
	KeyID string
	// Data is the wrapped key, of at most 8192 bytes.
	Data []byte
}

const (
	maxKeyID   = 1024
	maxWrapped = 8192
)

func (w WrappedKey) check() error {
	if len(w.KeyID) > maxKeyID || len(w.Data) == 0 || len(w.Data) > maxWrapped {
		return fmt.Errorf("the KeyWrapper returned a wrapped key of %d bytes, want 1 to %d, with a KeyID of %d, want at most %d", len(w.Data), maxWrapped, len(w.KeyID), maxKeyID)
	}
	return nil
}

// keyFunc is a KeySource that prints as an address.
type keyFunc func(ctx context.Context) ([][]byte, error)

func (f keyFunc) Keys(ctx context.Context) ([][]byte, error) { return f(ctx) }

// KeyBytes returns a source of the given keys, of exactly 32 bytes each: from a systemd
// credential or a key management service, for instance. The first seals, and every one opens,
// so put a new key before the old ones. A passphrase is not a key, see PassphraseFile.
func KeyBytes(keys ...[]byte) KeySource {
	own, err := cloneKeys(keys)
	return keyFunc(func(context.Context) ([][]byte, error) {
		if err != nil {
			return nil, fmt.Errorf("KeyBytes: %w", err)
		}
		return cloneKeys(own)
	})
}

func cloneKeys(keys [][]byte) ([][]byte, error) {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		if len(k) != keySize {
			return nil, fmt.Errorf("key %d has %d bytes, want %d", i+1, len(k), keySize)
		}
		out[i] = bytes.Clone(k)
	}
	return out, nil
}

// A keySet is what a Cache knows about the keys of its source.
type keySet struct {
	source KeySource
	gate   gate.Gates
	known  atomic.Pointer[[]dataKey]
}

// get returns the keys, the sealing one first. It asks the source if nothing is known yet, or
// if the known keys are still stale, which the caller has found insufficient.
func (s *keySet) get(ctx context.Context, stale *[]dataKey) (*[]dataKey, error) {
	if known := s.known.Load(); known != stale {
		return known, nil
	}
	return s.ask(ctx, func(known *[]dataKey) bool { return known != stale })
}

// current returns the known keys, or the keys as they are now.
func (s *keySet) current(ctx context.Context, fresh bool) (*[]dataKey, error) {
	if fresh {
		return s.fresh(ctx)
	}
	return s.get(ctx, nil)
}

// fresh returns the keys as they are now: an earlier answer of the source is not enough.
func (s *keySet) fresh(ctx context.Context) (*[]dataKey, error) {
	return s.ask(ctx, func(*[]dataKey) bool { return false })
}

// ask asks the source, in a single flight, because it may ask the user; unless what has become
// known meanwhile is enough.
func (s *keySet) ask(ctx context.Context, enough func(known *[]dataKey) bool) (*[]dataKey, error) {
	leave, err := s.gate.Enter(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("waiting for the sealing key: %w", err)
	}
	defer leave()
	if known := s.known.Load(); enough(known) {
		return known, nil
	}
	secrets, err := s.source.Keys(ctx)
	if err == nil && len(secrets) == 0 {
		err = errors.New("the key source has no key")
	}
	if err != nil {
		return nil, keyError(err)
	}
	keys := make([]dataKey, len(secrets))
	for i, secret := range secrets {
		if keys[i], err = newDataKey(secret); err != nil {
			return nil, keyError(err)
		}
	}
	s.known.Store(&keys)
	return &keys, nil
}

// keyError makes sure that a missing key is never taken for a missing login.
func keyError(err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("%w: sealing key: %v", ErrUnavailable, err)
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrCorrupt):
		return fmt.Errorf("sealing key: %w", err)
	}
	return fmt.Errorf("%w: sealing key: %w", ErrUnavailable, err)
}
