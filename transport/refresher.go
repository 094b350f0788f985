package transport

import (
	"context"
	"crypto"
	"errors"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/internal/neterror"
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

	// Target, if not empty, says that it is not the login's own access token that is renewed,
	// but that for another target, see tokencache.Record.Select. The records of Check and
	// Refresh have it selected. All such tokens of a login share its refresh token.
	Target string

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

// A Prover is a Refresher of logins that are bound to a key (RFC 9449), as an Endpoint with DPoP
// is. A Transport proves the possession of that key with every request. Without a Prover, a
// login that is bound is not used, and stays as it is.
type Prover interface {
	// ProofKey returns the private key that the login of rec is bound to, whatever state the
	// login is in. Errors are *Error: ErrMisconfigured if there is no such key, ErrUnavailable
	// if it cannot be had now.
	ProofKey(ctx context.Context, rec *tokencache.Record) (crypto.Signer, error)
}

// check is Check of the Refresher, which may know nothing of keys.
func (cfg *SourceConfig) check(rec *tokencache.Record) error {
	if _, thumbprint := rec.Proof(); thumbprint != "" {
		if _, ok := cfg.Refresher.(Prover); !ok {
			return notProvable("use a Refresher that proves the possession of keys: the stored login is bound to one", nil)
		}
	}
	return cfg.Refresher.Check(rec)
}

// proofKey returns the key that the token of snap is bound to.
func (cfg *SourceConfig) proofKey(ctx context.Context, snap *snapshot) (*dpop.Key, error) {
	if key := snap.bound.Load(); key != nil {
		return key, nil
	}
	if err := cfg.check(snap.rec); errors.Is(err, ErrMisconfigured) {
		return nil, err
	}
	signer, err := cfg.Refresher.(Prover).ProofKey(ctx, snap.rec)
	if err != nil {
		return nil, notProven(err)
	}
	key, unfit, err := cfg.servers.NewKey(ctx, signer)
	if err != nil {
		return nil, notProven(err)
	}
	if unfit != nil {
		return nil, notProvable("use a key that can sign proofs", unfit)
	}
	switch private, thumbprint := snap.rec.Proof(); {
	case key.Thumbprint == thumbprint:
	case private != "":
		return nil, notProvable("log in again: the key in the record is not the one that its tokens are bound to", nil)
	default:
		return nil, notProvable("let ProofKey return the key that the login is bound to: it has returned another one", nil)
	}
	snap.bound.Store(key)
	return key, nil
}

func notProvable(remedy string, cause error) *Error {
	return &Error{Kind: ErrMisconfigured, Op: "token", Field: "SourceConfig.Refresher", Remedy: remedy, Err: cause}
}

// notProven is the error of a request that was not sent because the key has not signed: it says
// nothing about the login. A key service may have a login of its own, and what is wrong with
// that is not wrong with this one.
func notProven(cause error) error {
	if failed, ok := errors.AsType[*Error](cause); ok {
		if failed.Kind == ErrMisconfigured || failed.Kind == ErrUnavailable {
			return failed
		}
		cause = errors.New(failed.Error())
	}
	return &Error{Kind: ErrUnavailable, Op: "token", Err: neterror.Unquoted(cause), Remedy: "nothing was sent: the key has not signed the proof that the request needs"}
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
	patience := askTime
	if d.interrupted {
		patience = longestWait
	}
	e := cfg.probe(ctx, patience)
	if e == nil || d.due && (e.Status != 0 || !e.Timeout() || !d.interrupted || wallNow().Sub(d.since) > longestSilence) {
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
