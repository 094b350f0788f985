package tokencache

import "context"

// A KeyWrapper protects data keys with a key that it never hands out: one in a KMS or an HSM,
// or the private half of a public key. Its methods are safe for concurrent use, and return
// promptly once ctx is done. Errors wrap ErrUnavailable (it cannot be reached, is throttled, or
// denies access) or ErrCorrupt (what was to be unwrapped is damaged, or was wrapped with a key
// that is not there), and hold no key.
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
