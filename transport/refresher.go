package transport

import (
	"context"
	"errors"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A Refresher obtains the successor of a login's tokens. An Endpoint, of package endpoint,
// is the usual one. A Source calls it for one login at a time, while it holds the lock on that
// login, and takes care of everything around the call: waiting, journal, storage,
// back-off.
//
// The records that it is given are never nil, and their Key says whose login this is,
// account included. If nothing is stored, they hold nothing else.
type Refresher interface {
	// Identity says whose tokens are renewed. It does no I/O, and returns the same each time.
	Identity() Identity

	// Check says, without any I/O, whether Refresh can do something with current. If
	// not, the error is an *Error of kind ErrLoginRequired (nothing to spend) or
	// ErrMisconfigured (the configuration is wrong, or current belongs to another token
	// endpoint). NewSource and NewPool ask with a record that holds nothing but a Key, in
	// a Pool without an account.
	Check(current *tokencache.Record) error

	// Refresh makes one attempt, and asks for current.Claims, if there are any and the
	// provider has a way to be asked. It returns what the provider answered: the tokens,
	// their times and scope. RefreshToken is empty if the answer had none, and the
	// caller then keeps the old one. It does not modify current.
	//
	// Errors are *Error. If the end of an answer is missing, which might have been tokens,
	// its cause wraps io.ErrUnexpectedEOF. If the provider answered with a new refresh
	// token and yet without a usable access token, Refresh returns both a record and an
	// error, so that the new refresh token can be saved.
	Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error)
}

// An Identity says whose tokens a Refresher renews. Its zero value says nothing: then
// SourceConfig.Key has to.
type Identity struct {
	// Key is the default of SourceConfig.Key. Its Account is not used.
	Key tokencache.Key

	// TokenURL is the token endpoint that a new login belongs to, if its record does
	// not say.
	TokenURL string

	// NamesAudience says that each refresh tells the provider what the token is to be
	// for, so that a token for something else need not be used.
	NamesAudience bool

	// Former says that a login which was stored under Key without its Audience may be
	// one of these: earlier versions of this module stored them so.
	Former bool

	// Gate is what all have in common who ask the same provider. Default: each Source, or
	// each Pool, has its own.
	Gate *Gate
}

// A Prober is a Refresher that can ask its provider a harmless question, to learn whether
// it would deal with a refresh now. A Source asks it while the provider is down, and before
// it presents a refresh token whose last request may still be answered.
type Prober interface {
	// Probe sends nothing that could be spent, and no secret. Errors are *Error: with a
	// Status if the provider has answered, but cannot deal with requests.
	Probe(ctx context.Context) error
}

// askTime is how long a question takes at most that nothing but time depends on, and
// longestSilence how long a provider that answers none is believed to be away, though it
// may still have a request to deal with. After that it is tried all the same: perhaps it
// is questions that it does not answer.
const (
	askTime        = 5 * time.Second
	longestSilence = 30 * time.Minute
)

// A doubt is why the provider is asked a harmless question before its refresh token is
// presented: because a request that was lost may still be answered, when a provider that was
// frozen goes on; or because there is an outage, and the end of it is to be found soon
// and without a risk.
type doubt struct {
	since       time.Time // zero: there is none
	interrupted bool      // a request was lost
	due         bool      // an attempt is, although nobody is in a hurry
}

// ask asks the question. The error says that the token must not be presented now.
func (cfg *SourceConfig) ask(ctx context.Context, d doubt) *Error {
	if d.since.IsZero() {
		return nil
	}
	now, patience := wallNow(), askTime
	if d.interrupted {
		patience = longestWait
	}
	e := cfg.probe(ctx, patience)
	if e == nil || d.due && (e.Status != 0 || !e.Timeout() || !d.interrupted || now.Sub(d.since) > longestSilence) {
		return nil
	}
	return e
}

// probe asks the provider a harmless question, if the Refresher can. It takes d at most.
func (cfg *SourceConfig) probe(ctx context.Context, d time.Duration) *Error {
	p, ok := cfg.Refresher.(Prober)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := p.Probe(ctx)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: ErrUnavailable, Op: "refresh", Err: err}
}
