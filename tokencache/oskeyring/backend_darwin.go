package oskeyring

import (
	"context"

	gokeyring "github.com/zalando/go-keyring"
)

// macOS has no question that could be asked first: the security program shows a
// prompt when it needs one, and fails where it cannot.
func (goKeyring) Get(_ context.Context, service, user string) (string, error) {
	return gokeyring.Get(service, user)
}

func (goKeyring) Set(service, user, value string) error { return gokeyring.Set(service, user, value) }

func (goKeyring) hidesPrompts() bool { return true }

func (goKeyring) unlock(context.Context, func()) error { return &Error{Locked, nil} }

func (goKeyring) problem(err error) Problem { return securityProblem(err) }

func (goKeyring) limit(service, user string) int { return macLimit(service, user) }
