package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/stayauth/stayauth/tokencache"
)

// A SourceConfig says whose tokens a Source keeps, where, and how it renews them.
type SourceConfig struct {
	// Cache keeps the login across restarts and shares it between processes.
	// Required.
	Cache *tokencache.Cache

	// Refresher renews the tokens, usually an *Endpoint. Required.
	Refresher Refresher

	// Key says which login of the cache this is. Issuer and ClientID default to
	// those of the Endpoint and are required with any other Refresher. Audience defaults
	// to what the Endpoint asks for, see Endpoint.Params.
	Key tokencache.Key

	// Lead is how long before its expiry a token is refreshed in the background.
	// Default: a third of the token's lifetime, at most 5 minutes, which survives a
	// provider's restart without refreshing much more often than needed. It is
	// shortened by up to 20 % at random, so that processes do not act at once, and
	// never exceeds half the lifetime. A provider's refresh_in goes before it.
	Lead time.Duration

	// Skew is how long before its expiry a token is no longer used. Default: a tenth
	// of the token's lifetime, at most 10 seconds: the time a request may spend in
	// queues, plus the error of ordinary clocks.
	Skew time.Duration

	// Timeout bounds the wait for another process that works on the login, and then
	// the refresh itself, a few requests. Default: 1 minute. Callers wait no longer
	// than their own contexts.
	Timeout time.Duration

	// Logger receives what OnEvent receives. Default: slog.Default(). Routine is
	// logged at level Debug, what a person should know at Warn.
	Logger *slog.Logger

	// OnEvent, if set, is told of every change in the life of the login, of one after
	// the other. The context is that of the call which caused it, without its end. It
	// should return soon, because later events wait for it, and must not call Close.
	// Package transport/otel makes metrics and traces of the events.
	OnEvent func(context.Context, Event)

	clock *clock // that its Sources share

	// Of the ownership that the Refresher told.
	unnamed, asks bool
}

// A Source keeps one login alive and hands out its access token. It is safe for
// concurrent use; many Sources, in many processes, may share one login through
// their cache. A Source needs no goroutine while it is idle.
type Source struct {
	// cfg is shared by the Sources of a Pool, and account is which of them this is.
	cfg     *SourceConfig
	account string

	// cur is the token in use, nil while none is known. Readers need nothing else.
	cur atomic.Pointer[snapshot]

	hash uint64                 // of account, in a Pool
	next atomic.Pointer[Source] // in a list of the Pool's table

	// keepers counts the calls of KeepFresh that are running, and used says that a
	// Pool has handed out this Source since it last looked.
	keepers atomic.Int32
	used    atomic.Bool

	*state
}

// The state of a Source is what requests with a good token do not need. It lies elsewhere:
// of a million logins, what each request needs should lie as close together as can be.
type state struct {
	// turn is held (by a send) by whoever works on the stored login: a flight, Login,
	// Logout, Flush or the saver. The fields below it belong to the holder.
	turn    chan struct{} // made when it is first needed, see turns
	pending *pending      // a rotation that could not be saved yet

	// atFormer says that the login is kept under the key of earlier versions, see former.
	// It changes only when the lock is taken.
	atFormer atomic.Bool

	// mu guards what follows; it is never held during I/O.
	mu      sync.Mutex
	flight  *flight
	closed  bool
	telling bool   // somebody is
	logins  uint32 // logins and logouts by this Source
	events  []noted
	outage  *Error                      // why the last flight failed, and when to try again
	backoff *backoff.ExponentialBackOff // nil while there is no outage
	lost    bool                        // the outcome of a flight of this outage is unknown
	dead    *Error                      // why a login is required
	refused *tokencache.Record          // the record whose refresh token the provider refused, with the tombstone
	lookAt  int64                       // nanoseconds since 1970, see mayLook
	unsaved *Error                      // nil unless there is pending
	stop    chan struct{}               // made for the saver, closed by Close
	work    sync.WaitGroup              // flights and the saver
}

// NewSource returns a Source. It does no I/O: the login is read from the cache
// when a token is first needed.
func NewSource(cfg SourceConfig) (*Source, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return newSource(&cfg, cfg.Key.Account), nil
}

// newSource returns the Source of an account. A Pool has very many of them, so it
// makes nothing that an idle login can do without.
func newSource(cfg *SourceConfig, account string) *Source {
	return &Source{cfg: cfg, account: account, state: new(state)}
}

// turns returns the channel turn.
func (s *Source) turns() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn == nil {
		s.turn = make(chan struct{}, 1)
	}
	return s.turn
}

// complete checks cfg and fills in the defaults.
func (cfg *SourceConfig) complete() error {
	bad := func(field, remedy string) error {
		return &Error{Kind: ErrMisconfigured, Op: "config", Field: "SourceConfig." + field, Remedy: remedy}
	}
	if cfg.Cache == nil {
		return bad("Cache", "set it: without a cache a rotated refresh token is lost when the process ends")
	}
	if cfg.Refresher == nil {
		return bad("Refresher", "set it, to an *Endpoint for instance")
	}
	if err := cfg.Refresher.Check(nil); err != nil && !errors.Is(err, ErrLoginRequired) {
		return err
	}
	if id, ok := cfg.Refresher.(identifier); ok {
		own := id.identity()
		cfg.Key.Issuer = cmp.Or(cfg.Key.Issuer, own.key.Issuer)
		cfg.Key.ClientID = cmp.Or(cfg.Key.ClientID, own.key.ClientID)
		if cfg.Key.Audience == "" {
			cfg.Key.Audience, cfg.unnamed, cfg.asks = own.key.Audience, own.unnamed, own.asks
		}
		if cfg.Key.ClientID != own.key.ClientID {
			return bad("Key.ClientID", "leave it empty or make it equal to the endpoint's ClientID")
		}
	}
	if cfg.Key.Issuer == "" || cfg.Key.ClientID == "" {
		return bad("Key", "set Issuer and ClientID: this Refresher does not tell them")
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"Lead", cfg.Lead}, {"Skew", cfg.Skew}, {"Timeout", cfg.Timeout}} {
		if d.value < 0 {
			return bad(d.field, "use a positive duration, or 0 for the default")
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.clock = new(clock)
	return nil
}

// Format prints which login this is, whatever the verb, and nothing secret.
func (s *Source) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "Source{Issuer: %q, ClientID: %q, Account: %q}", s.cfg.Key.Issuer, s.cfg.Key.ClientID, s.account)
}

// A Token is an access token to use now. Its secret prints as "[redacted]".
type Token struct {
	AccessToken tokencache.Secret
	Type        string    // "Bearer"
	Expiry      time.Time // zero: unknown
	Scope       string    // granted scopes, separated by spaces; empty: unknown
}

// Token returns an access token that is good now. Usually that is one look at
// memory. If the token has expired, Token waits for its refresh, no longer than
// until ctx is done; the refresh goes on in any case, so that its result is saved.
//
// Errors are *Error: ErrLoginRequired if only a login helps, ErrUnavailable or
// ErrAmbiguous with RetryAt if the provider is down, ErrMisconfigured, ErrStorage.
func (s *Source) Token(ctx context.Context) (Token, error) {
	snap, _, err := s.token(ctx)
	if err != nil {
		return Token{}, err
	}
	return snap.token(), nil
}

// Reject reports that an API refused a token with a 401, and returns the token to
// use instead. A newer token that is known already is returned at once; otherwise
// one refresh serves all callers. A token that is only seconds old is not replaced,
// nor is any within 30 seconds of the last one that was, whichever process did it:
// an API that refuses everything must not cause a storm. Then only a newer token in
// the cache helps, that of a new login for instance.
func (s *Source) Reject(ctx context.Context, refused Token) (Token, error) {
	snap, err := s.reject(ctx, refused.AccessToken)
	if err != nil {
		return Token{}, err
	}
	return snap.token(), nil
}

// fresh returns the token if it can be used without further thought, else nil.
func (s *Source) fresh() *snapshot {
	if snap := s.cur.Load(); snap.freshAt(s.cfg.clock.now()) {
		return snap
	}
	return nil
}

// token returns the token to use and, if this call started a refresh in the
// background, that flight.
func (s *Source) token(ctx context.Context) (*snapshot, *flight, error) {
	if snap := s.fresh(); snap != nil {
		return snap, nil, nil
	}
	s.mu.Lock()
	now := wallNow()
	snap := s.cur.Load()
	switch {
	case snap.fresh(now):
		s.mu.Unlock()
		return snap, nil, nil
	case snap.usable(now):
		f := s.startInBackground(ctx, now)
		s.mu.Unlock()
		return snap, f, nil
	}
	f, err := s.joinOrStart(ctx, now, "")
	s.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	if snap, err = f.wait(ctx); err != nil {
		return nil, nil, err
	}
	// What came from the cache may be stale: a process that makes one request in its
	// life renews it all the same.
	if now = wallNow(); f.adopted && !snap.fresh(now) {
		s.mu.Lock()
		bg := s.startInBackground(ctx, now)
		s.mu.Unlock()
		return snap, bg, nil
	}
	return snap, nil, nil
}

// The shortest age at which a refused token is replaced, and the shortest time
// between two such replacements.
const (
	minRefusedAge  = 3 * time.Second
	forcedInterval = 30 * time.Second
)

func (s *Source) reject(ctx context.Context, refused tokencache.Secret) (*snapshot, error) {
	for range 2 {
		s.mu.Lock()
		now := wallNow()
		snap := s.cur.Load()
		if snap != nil && snap.rec.AccessToken != refused && snap.usable(now) {
			s.mu.Unlock()
			return snap, nil
		}
		if snap != nil && snap.rec.AccessToken == refused {
			if at := snap.replaceableAt(); s.flight == nil && now.Before(at) {
				look := s.mayLook(now, lookInterval)
				s.mu.Unlock()
				if look {
					if snap := s.lookForNewer(ctx, snap); snap != nil {
						return snap, nil
					}
				}
				return nil, &Error{Kind: ErrUnavailable, Op: "reject", RetryAt: at,
					Remedy: "the token is too new to be replaced; the API may refuse it for another reason"}
			}
			snap = snap.refuse()
			s.cur.Store(snap)
		}
		f, err := s.joinOrStart(ctx, now, refused)
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if snap, err = f.wait(ctx); err != nil {
			return nil, err
		}
		if snap.rec.AccessToken != refused {
			return snap, nil
		}
		// The flight that was joined had been started for another reason and found the
		// token good. Now it is known to be refused: once more.
	}
	return nil, &Error{Kind: ErrUnavailable, Op: "reject", Remedy: "the provider keeps answering with the token that the API refuses"}
}
