package transport

import (
	"context"
	"errors"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A Refresher obtains the successor of a login's tokens. The usual one is an Endpoint of
// package endpoint. A Source calls it while it holds the lock on the login, and takes care of
// everything around the call: waiting, journal, storage, back-off.
//
// The records that it is given are never nil, and their Key says whose login it is, account
// included. If nothing is stored, a record holds nothing but its Key.
type Refresher interface {
	// Identity says whose tokens are renewed. It does no I/O, and always returns the same.
	Identity() Identity

	// Check says, without any I/O, whether Refresh can do anything with current. If not,
	// the error is an *Error of kind ErrLoginRequired (there is nothing to spend) or
	// ErrMisconfigured (the configuration is wrong, or current belongs to another token
	// endpoint). NewSource and NewPool call it with a record that holds nothing but a Key;
	// that of NewPool has no account.
	Check(current *tokencache.Record) error

	// Refresh makes one attempt. It asks for current.Claims, if there are any and the
	// provider can be asked for them. It returns what the provider answered: the tokens,
	// their times and their scope. RefreshToken is empty if the answer had none; the caller
	// then keeps the old one. Refresh does not modify current.
	//
	// Errors are *Error. If the end of the answer is missing, and with it perhaps tokens,
	// the cause wraps io.ErrUnexpectedEOF. If the provider answered with a new refresh
	// token but no usable access token, Refresh returns both a record and an error, so that
	// the new refresh token can be saved.
	Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error)
}

// An Identity says whose tokens a Refresher renews. The zero value says nothing: then
// SourceConfig.Key has to say it.
type Identity struct {
	// Key is the default of SourceConfig.Key. Its Account is not used.
	Key tokencache.Key

	// TokenURL is the token endpoint of a new login whose record names none.
	TokenURL string

	// NamesAudience says that each refresh names what the token is to be for, so that a
	// token for something else need not be used.
	NamesAudience bool

	// Former says that a login that is stored under Key without its Audience may belong
	// here, because earlier versions of this module stored logins that way.
	Former bool

	// IdleTime is how long a login lives that is not refreshed, and Lifetime how long any
	// lives, whatever is done. Zero: not known, or without end.
	IdleTime, Lifetime time.Duration

	// Gate is shared by all that send requests to the same provider. Default: each Source,
	// or each Pool, has its own.
	Gate *Gate
}

// A Prober is a Refresher that can ask its provider a harmless question, to learn whether it
// would handle a refresh now. A Source does so while the provider is down, and before it
// presents a refresh token whose last request may still be answered.
type Prober interface {
	// Probe sends nothing that could be spent, and no secret. Errors are *Error, with a
	// Status if the provider answered but cannot handle requests.
	Probe(ctx context.Context) error
}

// askTime bounds a question on which nothing but time depends. longestSilence is how long a
// provider that answers no question is taken to be away, though it may still have a request to
// work on. After that it is tried all the same: perhaps it only ignores questions.
const (
	askTime        = 5 * time.Second
	longestSilence = 30 * time.Minute
)

// A doubt is the reason to ask the provider a harmless question before the refresh token is
// presented: a lost request may still be answered once a frozen provider goes on; or there is
// an outage, whose end is to be found soon and without risk.
type doubt struct {
	since       time.Time // when the outage began; zero: there is none
	interrupted bool      // a request was lost
	due         bool      // an attempt is due even though there is no hurry
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

// probe asks the provider a harmless question, if the Refresher can do that. It takes no longer
// than d.
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
