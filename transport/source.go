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

	"github.com/stayauth/stayauth/tokencache"
)

// A SourceConfig says whose tokens a Source keeps, where, and how it renews them.
type SourceConfig struct {
	// Cache keeps the login across restarts and shares it between processes.
	// Required.
	Cache *tokencache.Cache

	// Refresher renews the tokens, usually an *endpoint.Endpoint. Required.
	Refresher Refresher

	// Key says which login of the cache this is. Issuer and ClientID default to
	// those of the Refresher, and are required if it tells none. Audience defaults
	// to what it asks for, see Params of package endpoint; a login that an earlier version
	// stored without it stays under that key, and is used.
	Key tokencache.Key

	// Lead is how long before its expiry a token is refreshed in the background.
	// Default: a third of the token's lifetime, at most 5 minutes, which survives a
	// provider's restart without refreshing much more often than needed. It is
	// shortened by up to 20 % at random, so that processes do not act at once, and
	// never exceeds half the lifetime. A provider's refresh_in goes before it.
	Lead time.Duration

	// Skew is how long before its expiry a token is no longer used. Default: a tenth
	// of the token's lifetime, at most 10 seconds: the time a request may spend in
	// queues, plus the error of ordinary clocks. It never exceeds a quarter of the lifetime.
	Skew time.Duration

	// Timeout bounds a refresh as a whole, as the last resort: an Endpoint gives up by
	// itself, when that is safe. Callers wait no longer than their own contexts, and for
	// 15 s at most. Default: 10 minutes, or a day with a Prober, such as an Endpoint.
	Timeout time.Duration

	// Logger receives what OnEvent receives. Default: slog.Default(). Routine is
	// logged at level Debug, what a person should know at Warn.
	Logger *slog.Logger

	// OnEvent, if set, is told of every change in the life of the login, of one after
	// the other. The context is that of the call which caused it, without its end. It
	// should return soon, because later events wait for it, and must not call Close.
	// Package transport/otelstayauth turns the events into metrics and traces.
	OnEvent func(context.Context, Event)

	gate *Gate     // of the Refresher
	born time.Time // when the process began to use the login

	// Of the Identity of the Refresher.
	unnamed, asks bool
	what          string // that its records are for; empty if whoever made the key knows
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

	closed atomic.Bool

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

	events eventQueue

	// mu guards what follows; it is never held during I/O.
	mu      sync.Mutex
	flight  *flight
	logins  uint32             // logins and logouts by this Source
	outage  *outage            // nil while there is none
	dead    *Error             // why a login is required
	refused *tokencache.Record // the record whose refresh token the provider refused, with the tombstone
	lookAt  int64              // nanoseconds since 1970, see mayLook
	unsaved *Error             // nil unless there is pending
	claimed bool               // an API has demanded claims, and the cache does not know yet
	working int                // flights and savers that have not ended, their events included
	idle    chan struct{}      // made by Close, closed when there are none
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
		return bad("Refresher", "set it, to an *endpoint.Endpoint for instance")
	}
	own := cfg.Refresher.Identity()
	if own.Key.ClientID != "" {
		cfg.Key.Issuer = cmp.Or(cfg.Key.Issuer, own.Key.Issuer)
		cfg.Key.ClientID = cmp.Or(cfg.Key.ClientID, own.Key.ClientID)
		if cfg.Key.Audience == "" {
			cfg.Key.Audience, cfg.unnamed, cfg.asks = own.Key.Audience, own.Former, own.NamesAudience
			cfg.what = cmp.Or(own.Key.Audience, forNothing)
		}
		if cfg.Key.ClientID != own.Key.ClientID {
			return bad("Key.ClientID", "leave it empty or make it equal to the endpoint's ClientID")
		}
	}
	if err := cfg.Refresher.Check(&tokencache.Record{Key: cfg.Key}); err != nil && !errors.Is(err, ErrLoginRequired) {
		return err
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
		cfg.Timeout = 10 * time.Minute
		if _, patient := cfg.Refresher.(Prober); patient {
			cfg.Timeout = 24 * time.Hour
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.gate = cmp.Or(own.Gate, new(Gate))
	cfg.born = time.Now()
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
// until ctx is done and for 15 s at most; the refresh goes on in any case, so that its
// result is saved, and Flush or Close waits for it.
//
// A token that is good for a little longer is returned at once. Its refresh begins in
// the background, but not in a process that uses the login for less than a minute: it
// may end soon, and a refresh must not end with it. If the refresh token is about to end,
// it begins all the same. (Requests through a Transport begin one at any time, because the
// Close of their response's body waits for it.) A program that runs for long and asks for
// nothing but tokens runs KeepFresh.
//
// Errors are *Error: ErrLoginRequired if only a login helps, ErrUnavailable or
// ErrAmbiguous with RetryAt if the provider is down, ErrMisconfigured, ErrStorage.
func (s *Source) Token(ctx context.Context) (Token, error) {
	snap, err := s.token(ctx, false)
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
//
// Until there is another one, the token stays in use: it may be good for other APIs. But
// if the API has demanded claims, as in Microsoft's continuous access evaluation, the
// token is out of use, for whoever shares the login, and the refresh asks for them.
// challenges are those of the answer, see ParseChallenges. If the provider refuses, the
// error is an ErrLoginRequired with the claims that a login has to ask for.
func (s *Source) Reject(ctx context.Context, refused Token, challenges ...Challenge) (Token, error) {
	claims := ""
	for _, c := range challenges {
		claims = cmp.Or(claims, c.demands())
	}
	snap, err := s.reject(ctx, refused.AccessToken, claims)
	if err != nil {
		return Token{}, err
	}
	return snap.token(), nil
}

// fresh returns the token if it can be used without further thought, else nil.
func (s *Source) fresh() *snapshot {
	if snap := s.cur.Load(); snap.freshAt(time.Now().UnixNano()) {
		return snap
	}
	return nil
}

// youth is how long a process that uses a login may turn out to be a short one.
const youth = time.Minute

// mayLeave reports whether a refresh in the background may begin though nobody sees to
// its end: if the process is not one that ends soon, or if the refresh token would.
// s.mu is held.
func (s *Source) mayLeave(snap *snapshot, now time.Time) bool {
	return time.Since(s.cfg.born) > youth || s.kept() || snap.refreshTokenEnds(now)
}

// token returns the token to use. If that is to be refreshed, it starts the refresh in
// the background; attended says that the caller sees to its end, like a Transport.
func (s *Source) token(ctx context.Context, attended bool) (*snapshot, error) {
	if snap := s.fresh(); snap != nil {
		return snap, nil
	}
	s.mu.Lock()
	now := wallNow()
	snap := s.cur.Load()
	switch {
	case snap.fresh(now):
		s.mu.Unlock()
		return snap, nil
	case snap.usable(now):
		if attended || s.mayLeave(snap, now) {
			s.startInBackground(ctx, now)
		}
		s.mu.Unlock()
		return snap, nil
	}
	f, err := s.joinOrStart(ctx, now, "")
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if snap, err = f.wait(ctx); err != nil {
		return nil, err
	}
	// What came from the cache may be stale: a process that makes one request in its
	// life renews it all the same.
	if now = wallNow(); f.adopted && !snap.fresh(now) {
		s.mu.Lock()
		if attended || s.mayLeave(snap, now) {
			s.startInBackground(ctx, now)
		}
		s.mu.Unlock()
	}
	return snap, nil
}

// The shortest age at which a refused token is replaced, and the shortest time
// between two such replacements.
const (
	minRefusedAge  = 3 * time.Second
	forcedInterval = 30 * time.Second
)

// reject is Reject. claims are those that the API demands of the next token, or "".
func (s *Source) reject(ctx context.Context, refused tokencache.Secret, claims string) (*snapshot, error) {
	for range 2 {
		f, snap, err := s.replace(ctx, refused, claims)
		if f == nil {
			return snap, err
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

// replace returns the flight that will bring another token in the place of one that an
// API has refused, or else that token or the reason why there is none.
func (s *Source) replace(ctx context.Context, refused tokencache.Secret, claims string) (*flight, *snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := wallNow()
	snap := s.cur.Load()
	if snap != nil && snap.rec.AccessToken != refused && snap.usable(now) {
		return nil, snap, nil
	}
	if snap == nil && claims != "" { // It may be the one in the cache.
		snap = newSnapshot(&tokencache.Record{AccessToken: refused}, 0, 0)
	}
	if snap != nil && snap.rec.AccessToken == refused {
		if at := snap.replaceableAt(claims); s.flight == nil && now.Before(at) && snap.usable(now) {
			e := &Error{Kind: ErrUnavailable, Op: "reject", RetryAt: at,
				Remedy: "the token is too new to be replaced; the API may refuse it for another reason"}
			if s.closed.Load() || !s.mayLook(now, lookInterval) {
				return nil, nil, e
			}
			return s.start(ctx, refused, e), nil, nil
		}
		if claims == "" {
			s.cur.Store(snap.refuse())
		} else {
			s.takeOut(snap, claims)
		}
	}
	f, err := s.joinOrStart(ctx, now, refused)
	return f, nil, err
}
