package oskeyring

// macOS cannot be asked first: the security program shows a prompt when it needs one, and fails
// where it cannot.
func (goKeyring) hidesPrompts() bool { return true }

func (goKeyring) problem(err error) Problem { return securityProblem(err) }

func (goKeyring) limit(service, user string) int { return macLimit(service, user) }
