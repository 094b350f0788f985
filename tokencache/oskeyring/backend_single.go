//go:build darwin || windows

package oskeyring

import (
	"context"
	"errors"

	gokeyring "github.com/zalando/go-keyring"
)

// macOS and Windows have one keyring, as far as go-keyring can see.

func (goKeyring) Get(_ context.Context, service, user, _ string) (item, where, error) {
	value, err := gokeyring.Get(service, user)
	if errors.Is(err, gokeyring.ErrNotFound) {
		return item{}, where{}, nil
	}
	return item{value, err == nil}, where{}, err
}

func (goKeyring) Set(service, user, value, _ string) error {
	return gokeyring.Set(service, user, value)
}

func (goKeyring) Delete(service, user, _ string) error {
	err := gokeyring.Delete(service, user)
	if errors.Is(err, gokeyring.ErrNotFound) {
		return nil
	}
	return err
}

func (goKeyring) unlock(context.Context, string, string, string, func()) error {
	return &Error{Locked, nil}
}

// probes reports that a read proves nothing: only a write shows whether the keyring can be
// used.
func (goKeyring) probes() bool { return false }
