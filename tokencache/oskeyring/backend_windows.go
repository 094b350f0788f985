package oskeyring

// The Credential Manager is unlocked as long as its user is logged in.
func (goKeyring) hidesPrompts() bool { return false }

func (goKeyring) problem(err error) Problem { return windowsProblem(err) }

func (goKeyring) limit(string, string) int { return windowsLimit }
