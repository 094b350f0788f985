package oskeyring

import "context"

// The Credential Manager is unlocked as long as its user is logged in.
func (goKeyring) inspect(context.Context) error { return nil }

func (goKeyring) hidesPrompts() bool { return false }

func (goKeyring) unlock(context.Context, func()) error { return &Error{Locked, nil} }

func (goKeyring) problem(err error) Problem { return windowsProblem(err) }

func (goKeyring) limit(string, string) int { return windowsLimit }
