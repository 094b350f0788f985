package oskeyring

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stayauth/stayauth/tokencache"
)

const keySize = 32

// errNoKey means that there is no key yet, or no longer.
var errNoKey = errors.New("it holds no sealing key")

// A keyStore keeps the sealing keys of one directory, the newest first.
type keyStore interface {
	// keys returns the keys, or errNoKey if there is none.
	keys(ctx context.Context) ([][]byte, error)
	// make returns the keys, and makes one if there is none. If it can, it keeps the former
	// ones, with which records are sealed, after that.
	make(ctx context.Context, former [][]byte) ([][]byte, error)
	tokencache.KeyRotator
}

// keyUser is the user name of the item of the keys.
const keyUser = "sealing-key"

// keyringKeys keeps keys in an item of the OS keyring.
type keyringKeys struct {
	keyring *keyring
	lock    lockFunc
	former  *keyring // with the key of the directory before it was moved; or nil
}

// keyItem is the stored form of the keys.
type keyItem struct {
	V    int      `json:"v"`
	Keys [][]byte `json:"keys"`
}

const keyItemVersion = 1

func (k *keyringKeys) keys(ctx context.Context) ([][]byte, error) {
	it, err := k.keyring.get(ctx, keyUser, required)
	if k.former != nil && (err == nil && !it.ok || isProblem(err, Locked)) {
		if keys, formerErr := k.move(ctx); formerErr == nil || err == nil {
			return keys, formerErr
		}
	}
	if err != nil {
		return nil, err
	}
	return decodeKeys(it)
}

func (k *keyringKeys) make(ctx context.Context, former [][]byte) ([][]byte, error) {
	// For a new item it does not matter where items were, and anybody who can write to the
	// directory can write that note: a locked keyring that it names must not be waited for.
	anywhere := *k.keyring
	anywhere.astray = true
	it, err := anywhere.get(ctx, keyUser, unknown)
	if err == nil && !it.ok {
		it, err = anywhere.change(ctx, keyUser, unknown, k.lock, func(present item) (item, error) {
			if present.ok { // another process was faster
				return present, nil
			}
			return encodeKeys(append([][]byte{newKey()}, former...))
		})
	}
	if err != nil {
		return nil, err
	}
	return decodeKeys(it)
}

// quiet returns the same keys, but asks no person anything.
func (k *keyringKeys) quiet() *keyringKeys {
	quiet := *k
	for _, keyring := range []**keyring{&quiet.keyring, &quiet.former} {
		if *keyring != nil {
			asksNobody := **keyring
			asksNobody.onPrompt = nil
			*keyring = &asksNobody
		}
	}
	return &quiet
}

// move copies the keys of a directory that was moved to its new name. The old ones stay: the
// directory may have been copied, or may be moved back.
func (k *keyringKeys) move(ctx context.Context) ([][]byte, error) {
	it, err := k.former.get(ctx, keyUser, required)
	if err != nil || !it.ok {
		return nil, cmp.Or(err, errNoKey)
	}
	keys, err := decodeKeys(it)
	if err != nil {
		return nil, err
	}
	copied, err := k.keyring.change(ctx, keyUser, unknown, k.lock, func(present item) (item, error) {
		if present.ok { // another process was faster
			return present, nil
		}
		return it, nil
	})
	if err == nil {
		return decodeKeys(copied)
	}
	return keys, nil // The next process tries again.
}

// AddKey implements tokencache.KeyRotator.
func (k *keyringKeys) AddKey(ctx context.Context) error {
	return k.rotate(ctx, func(keys [][]byte) [][]byte { return append([][]byte{newKey()}, keys...) })
}

// DropOldKeys implements tokencache.KeyRotator.
func (k *keyringKeys) DropOldKeys(ctx context.Context) error {
	return k.rotate(ctx, func(keys [][]byte) [][]byte { return keys[:1] })
}

// rotate replaces the item, which the keyring does in one step.
func (k *keyringKeys) rotate(ctx context.Context, f func([][]byte) [][]byte) error {
	_, err := k.keyring.change(ctx, keyUser, required, k.lock, func(present item) (item, error) {
		keys, err := decodeKeys(present)
		if err != nil {
			return item{}, err
		}
		return encodeKeys(f(keys))
	})
	return err
}

func newKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key)
	return key
}

func encodeKeys(keys [][]byte) (item, error) {
	data, err := json.Marshal(keyItem{V: keyItemVersion, Keys: keys})
	return item{string(data), true}, err
}

func decodeKeys(it item) ([][]byte, error) {
	if !it.ok {
		return nil, errNoKey
	}
	var content keyItem
	if json.Unmarshal([]byte(it.value), &content) != nil || content.V < 1 || content.V == keyItemVersion && len(content.Keys) == 0 {
		return nil, fmt.Errorf("%w: the item in the OS keyring holds no keys of stayauth: restore it, or remove it and log in again", tokencache.ErrCorrupt)
	}
	if content.V > keyItemVersion {
		return nil, fmt.Errorf("%w: the keys in the OS keyring were written by a newer version of stayauth: update the program", tokencache.ErrCorrupt)
	}
	for _, key := range content.Keys {
		if len(key) != keySize {
			return nil, fmt.Errorf("%w: a key in the OS keyring has %d bytes, want %d", tokencache.ErrCorrupt, len(key), keySize)
		}
	}
	return content.Keys, nil
}
