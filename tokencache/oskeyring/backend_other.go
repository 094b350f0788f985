//go:build !((dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd || darwin || windows)

package oskeyring

import (
	"context"
	"errors"
)

var errPlatform = &Error{NoService, errors.New("not supported on this platform")}

// Get fails: there is no keyring that go-keyring knows.
func (goKeyring) Get(context.Context, string, string) (string, error) { return "", errPlatform }

func (goKeyring) Set(string, string, string) error { return errPlatform }

func (goKeyring) hidesPrompts() bool { return false }

func (goKeyring) unlock(context.Context, func()) error { return errPlatform }

func (goKeyring) problem(error) Problem { return Failed }

func (goKeyring) limit(string, string) int { return noLimit }
