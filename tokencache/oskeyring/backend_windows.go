package oskeyring

import (
	"context"

	gokeyring "github.com/zalando/go-keyring"
)

// The Credential Manager is unlocked as long as its user is logged in.
func (goKeyring) Get(_ context.Context, service, user string) (string, error) {
	return gokeyring.Get(service, user)
}

func (goKeyring) Set(service, user, value string) error { return gokeyring.Set(service, user, value) }

func (goKeyring) hidesPrompts() bool { return false }

func (goKeyring) unlock(context.Context, func()) error { return &Error{Locked, nil} }

func (goKeyring) problem(err error) Problem { return windowsProblem(err) }

func (goKeyring) limit(string, string) int { return windowsLimit }
