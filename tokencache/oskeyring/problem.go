package oskeyring

import (
	"context"
	"errors"
	"fmt"

	"github.com/stayauth/stayauth/tokencache"
)

// A Problem says why the OS keyring cannot be used here and now. The values are stable.
type Problem string

// The problems that Probe, Open and Items distinguish.
const (
	NoBus        Problem = "no session bus"     // no D-Bus session, as in a container or a cron job
	NoService    Problem = "no keyring service" // there is no Secret Service on the bus
	NoCollection Problem = "no keyring"         // the service has no keyring to put items in
	NoSession    Problem = "no login session"   // macOS or Windows over SSH, or as a service
	Locked       Problem = "locked"             // a person has to unlock it
	Denied       Problem = "access denied"      // the system or the user refuses this program
	TooBig       Problem = "too big"            // more than the platform accepts in one item
	NoAnswer     Problem = "no answer"          // the time limit of the call has passed
	NotKept      Problem = "not kept"           // what was written does not read back
	Failed       Problem = "failed"             // anything else; see the wrapped error
)

// remedy says what can be done.
func (p Problem) remedy() string {
	switch p {
	case NoBus:
		return "log in to a desktop, run the program under dbus-run-session with a keyring daemon, or accept another place for the key"
	case NoService:
		return "install and start a keyring such as gnome-keyring, KWallet or KeePassXC, or accept another place for the key"
	case NoCollection:
		return "create a default keyring with the desktop's password manager, or accept another place for the key"
	case NoSession:
		return "log in to the desktop of this machine, or accept another place for the key; on macOS, security unlock-keychain in the same terminal may help"
	case Locked:
		return "unlock the keyring, by logging in to the desktop or with its password manager; nothing stored is lost"
	case Denied:
		return "allow this program to use the keyring"
	case TooBig:
		return "use Open, which keeps only a small key in the keyring and has no such limit"
	case NoAnswer:
		return "look for a prompt that waits to be answered, or restart the keyring service"
	case NotKept:
		return "check that the keyring can be written and that no other program changes the item"
	}
	return "try another program that uses the keyring, to see whether it works at all"
}

// An Error is a failure of the OS keyring. It wraps tokencache.ErrUnavailable, because nothing
// that the keyring does means that a login is gone, and the cause, if that is known. It holds
// no secret.
type Error struct {
	Problem Problem
	Err     error // the cause; may be nil
}

// Error says what the problem is, its cause, and what can be done.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("OS keyring: %s: %s", e.Problem, e.Problem.remedy())
	}
	return fmt.Sprintf("OS keyring: %s: %v: %s", e.Problem, e.Err, e.Problem.remedy())
}

// Unwrap returns tokencache.ErrUnavailable and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{tokencache.ErrUnavailable}
	}
	return []error{tokencache.ErrUnavailable, e.Err}
}

func isProblem(err error, p Problem) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Problem == p
}

// interrupted returns the error of a caller that has stopped waiting.
func interrupted(ctx context.Context) error {
	return fmt.Errorf("OS keyring: stopped waiting: %w", ctx.Err())
}
