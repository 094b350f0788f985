//go:build !((dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd || darwin || windows)

package oskeyring

import (
	"context"
	"errors"
)

// inspect fails: there is no keyring that go-keyring knows.
func (goKeyring) inspect(context.Context) error {
	return &Error{NoService, errors.New("not supported on this platform")}
}

func (goKeyring) hidesPrompts() bool { return false }

func (b goKeyring) unlock(ctx context.Context, _ func()) error { return b.inspect(ctx) }

func (goKeyring) problem(error) Problem { return Failed }

func (goKeyring) limit(string, string) int { return noLimit }
