//go:build !((dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd || darwin || windows)

package oskeyring

import (
	"context"
	"errors"
)

var errPlatform = &Error{NoService, errors.New("not supported on this platform")}

// Get fails: there is no keyring that this package knows.
func (goKeyring) Get(context.Context, string, string, string) (item, where, error) {
	return item{}, where{}, errPlatform
}

func (goKeyring) Set(string, string, string, string) error { return errPlatform }

func (goKeyring) Delete(string, string, string) error { return errPlatform }

func (goKeyring) probes() bool { return true }

func (goKeyring) hidesPrompts() bool { return false }

func (goKeyring) unlock(context.Context, string, string, string, func()) error { return errPlatform }

func (goKeyring) problem(error) Problem { return Failed }

func (goKeyring) limit(string, string) int { return noLimit }
