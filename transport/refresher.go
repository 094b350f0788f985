package transport

import (
	"context"

	"github.com/stayauth/stayauth/tokencache"
)

// A Refresher obtains the successor of a login's tokens. *Endpoint is the usual
// one. A Source calls it for one login at a time, while it holds the lock on that
// login, and takes care of everything around the call: waiting, journal, storage,
// back-off.
type Refresher interface {
	// Check says, without any I/O, whether Refresh can do something with current,
	// which is nil if nothing is stored. If not, the error is an *Error of kind
	// ErrLoginRequired (nothing to spend) or ErrMisconfigured (the configuration is
	// wrong, or current belongs to another token endpoint).
	Check(current *tokencache.Record) error

	// Refresh makes one attempt, and asks for current.Claims, if there are any and the
	// provider has a way to be asked. It returns what the provider answered: the tokens,
	// their times and scope. RefreshToken is empty if the answer had none, and the
	// caller then keeps the old one. It does not modify current.
	//
	// Errors are *Error. If the provider answered with a new refresh token and yet
	// without a usable access token, Refresh returns both a record and an error, so
	// that the new refresh token can be saved.
	Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error)
}
