package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/claims"
	"github.com/stayauth/stayauth/transport/internal/delivery"
	"github.com/stayauth/stayauth/transport/internal/entry"
)

// A Source keeps one login alive and hands out its access token. It is safe for concurrent use,
// and many Sources, in many processes, may share one login through their cache. A Source needs
// no goroutine while it is idle.
type Source struct {
	// cfg is shared by the Sources of a Pool, and account says which of them this is.
	cfg     *SourceConfig
	account string

	// cur is the token in use, or nil while none is known. The hot path reads nothing else.
	cur atomic.Pointer[snapshot]

	hash uint64                 // of account, in a Pool
	next atomic.Pointer[Source] // in a list of the Pool's table

	closed atomic.Bool

	keepFreshCalls atomic.Int32 // that are running
	used           atomic.Bool  // handed out since evictionCost last looked

	*state
}

// The state of a Source is what requests with a good token do not need. It is allocated apart,
// so that with a million logins what each request needs lies as close together as possible.
type state struct {
	entry  entry.Entry // the stored login
	events delivery.Queue[queuedEvent]
	work   delivery.Workers // flights and savers

	// mu guards what follows; it is never held during I/O.
	mu       sync.Mutex
	flight   *flight
	logins   uint32             // logins and logouts by this Source
	claimed  bool               // an API has demanded claims, which are not in the cache yet
	shared   bool               // others renew the login too, so that a flight had better read first
	outage   *outage            // nil while there is none
	dead     *Error             // why a login is required
	refused  *tokencache.Record // the record whose refresh token the provider refused, with the tombstone
	reloadAt int64              // nanoseconds since 1970, see mayReload
	unsaved  *Error             // nil unless the entry is in state unsaved
}

// NewSource returns a Source. It does no I/O: the login is read from the cache
// when a token is first needed.
func NewSource(cfg SourceConfig) (*Source, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return newSource(&cfg, cfg.Key.Account), nil
}

// newSource returns the Source of an account. A Pool has very many of them, so it allocates
// nothing that an idle login can do without.
func newSource(cfg *SourceConfig, account string) *Source {
	return &Source{cfg: cfg, account: account, state: &state{entry: entry.New(&cfg.entries, account)}}
}

// choose and keptFresh make a Source, like a Pool, a chooser.
func (s *Source) choose(context.Context) (*Source, error) { return s, nil }

// keptFresh reports whether KeepFresh is running, so that the process is not about to end.
func (s *Source) keptFresh() bool { return s.keepFreshCalls.Load() > 0 }

// busy reports whether s has something that no other Source of the login has: the tokens of a
// refresh that is in flight or not saved yet.
func (s *Source) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flight != nil || s.unsaved != nil
}

// Format prints which login this is, whatever the verb, and no secret.
func (s *Source) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "Source{Issuer: %q, ClientID: %q, Account: %q}", s.cfg.Key.Issuer, s.cfg.Key.ClientID, s.account)
}

// Token returns an access token that is good now. Usually it only reads memory. If the token
// has expired, Token waits for its refresh, until ctx is done and for 15 s at most; the refresh
// goes on in any case, so that its result is saved, and Flush and Close wait for it.
//
// A token that is good for only a little longer is returned at once. Its refresh begins in the
// background, but not in a process that has used the login for less than a minute: that may end
// soon, and must not end in the middle of a refresh. If the refresh token is about to end, the
// refresh begins all the same. (Requests through a Transport begin one at any time, because
// closing the response's body waits for it.) A long-running program that only asks for tokens
// should run KeepFresh.
//
// Errors are *Error: ErrLoginRequired if only a login helps, ErrUnavailable or ErrAmbiguous
// with RetryAt if the provider is down, ErrMisconfigured, or ErrStorage.
func (s *Source) Token(ctx context.Context) (Token, error) {
	snap, err := s.token(ctx, false)
	if err != nil {
		return Token{}, err
	}
	return s.handOut(snap)
}

// handOut returns the token, unless it is bound to a key that cannot be used here.
func (s *Source) handOut(snap *snapshot) (Token, error) {
	if snap.bound != nil {
		if err := s.cfg.check(snap.rec); errors.Is(err, ErrMisconfigured) {
			return Token{}, err
		}
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

// token returns the token to use. If that is due to be refreshed, it starts the refresh in the
// background; attended says that the caller waits for its end, as a Transport does.
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
		return s.stale(ctx, snap, now, attended), nil
	}
	f, err := s.joinOrStart(ctx, now, "")
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if snap, err = f.wait(ctx); err != nil {
		return nil, err
	}
	// What the cache has may be stale: even a process of a single request renews it.
	if now = wallNow(); f.adopted && !snap.fresh(now) {
		s.mu.Lock()
		return s.stale(ctx, snap, now, attended), nil
	}
	return snap, nil
}

// mayLeave reports whether a background refresh may begin although nobody waits for its end:
// the process is not likely to end soon, or the refresh token is. s.mu is held.
func (s *Source) mayLeave(snap *snapshot, now time.Time) bool {
	return time.Since(s.cfg.born) > youth || s.keptFresh() || snap.refreshTokenEnds(now)
}

// stale returns snap, and starts its refresh in the background, unless the process may end before
// that is stored; then it waits, if snap may have expired long ago. s.mu is held, and released.
func (s *Source) stale(ctx context.Context, snap *snapshot, now time.Time, attended bool) *snapshot {
	var f *flight
	switch {
	case attended || s.mayLeave(snap, now):
		s.startInBackground(ctx, now)
	case snap.misdated(now):
		f, _ = s.joinOrStart(ctx, now, "") // If none may start now, snap may be good.
	}
	s.mu.Unlock()
	if f != nil {
		if next, err := f.wait(ctx); err == nil {
			return next
		}
	}
	return snap
}

// reject is Reject. demanded holds the claims that the API demands of the next token, or "", and
// changed is when the certificate of the client was, if it has one.
func (s *Source) reject(ctx context.Context, rejected tokencache.Secret, demanded string, changed time.Time) (*snapshot, error) {
	for range 2 {
		f, snap, err := s.replace(ctx, rejected, demanded, changed)
		if f == nil {
			return snap, err
		}
		if snap, err = f.wait(ctx); err != nil {
			return nil, err
		}
		if snap.rec.AccessToken != rejected {
			return snap, nil
		}
		// The flight that was joined had been started for another reason and found the
		// token good. Now it is known to be rejected: once more.
	}
	return nil, &Error{Kind: ErrUnavailable, Op: "reject", Remedy: "the provider keeps answering with the token that the API rejects"}
}

// besides returns the token that is good now, if that is another one than an API has rejected, or
// else why no refresh brings one that the API accepts. Another process may have logged in.
func (s *Source) besides(ctx context.Context, rejected tokencache.Secret, why *Error) (*snapshot, error) {
	snap, err := s.token(ctx, false)
	if err != nil || snap.rec.AccessToken != rejected {
		return snap, err
	}
	s.mu.Lock()
	now := wallNow()
	if s.flight != nil || s.closed.Load() || !snap.usable(now) || !s.mayReload(now, reloadInterval) {
		s.mu.Unlock()
		return nil, why
	}
	f := s.start(ctx, &flight{rejected: rejected, instead: why})
	s.mu.Unlock()
	return f.wait(ctx)
}

// replace returns the flight that will bring a token in place of one that an API has rejected,
// or else that token, or the reason why there is none.
func (s *Source) replace(ctx context.Context, rejected tokencache.Secret, demanded string, changed time.Time) (*flight, *snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := wallNow()
	snap := s.cur.Load()
	if snap != nil && snap.rec.AccessToken != rejected && snap.usable(now) {
		return nil, snap, nil
	}
	if snap == nil && demanded != "" { // It may be the one in the cache.
		snap = newSnapshot(&tokencache.Record{AccessToken: rejected}, 0, 0)
	}
	if snap != nil && snap.rec.AccessToken == rejected {
		if at := snap.replaceableAt(demanded, changed); s.flight == nil && now.Before(at) && snap.usable(now) {
			e := &Error{Kind: ErrUnavailable, Op: "reject", RetryAt: at,
				Remedy: "the token is too new to be replaced; the API may reject it for another reason"}
			if s.closed.Load() || !s.mayReload(now, reloadInterval) {
				return nil, nil, e
			}
			return s.start(ctx, &flight{rejected: rejected, instead: e}), nil, nil
		}
		if demanded == "" {
			s.cur.Store(snap.reject())
		} else { // The token must not be used any more.
			s.cur.Store(s.snapshot(claims.Demand(snap.rec, demanded)))
			s.claimed = true
		}
	}
	f, err := s.joinOrStart(ctx, now, rejected)
	return f, nil, err
}

// snapshot returns rec as this Source uses it.
func (s *Source) snapshot(rec *tokencache.Record) *snapshot {
	return newSnapshot(rec, s.cfg.Lead, s.cfg.Skew)
}

// emit queues an event at the moment of the change, so that the order is right whoever delivers
// it. quiet says that a caller gets it as an error, so that it need not be logged as well. s.mu
// is held.
func (s *Source) emit(ctx context.Context, e Event, quiet bool) {
	e.Key, e.At = s.entry.Key(), time.Now()
	if snap := s.cur.Load(); snap != nil && e.Generation == 0 {
		e.Generation, e.Expiry = snap.rec.Generation, snap.rec.Expiry
	}
	level := e.Type.level()
	if quiet {
		level = slog.LevelDebug
	}
	s.events.Add(queuedEvent{ctx: detached(ctx), Event: e, level: level})
}

// log queues trouble that changes nothing in the life of the login. Like an event it is
// delivered when no lock is held: a log handler may send its records with the very token that
// they are about.
func (s *Source) log(ctx context.Context, level slog.Level, msg string, err error) {
	s.events.Add(queuedEvent{ctx: detached(ctx), Event: Event{Key: s.entry.Key()}, trouble: msg, level: level, cause: err})
}

// deliver writes queued events to the log and notifies OnEvent, and survives a panic of either.
// No lock is held, so both may use the Source.
func (s *Source) deliver(ctx context.Context) {
	s.events.DeliverSafely(s.cfg.report, func(panicked any) {
		s.log(ctx, slog.LevelError, "OnEvent or the Logger panicked", fmt.Errorf("with a value of type %T", panicked))
	})
}

// deliverWithin is deliver for a caller that waits no longer than until ctx is done, and gets a
// panic of the listeners.
func (s *Source) deliverWithin(ctx context.Context) {
	s.events.DeliverWithin(ctx, s.cfg.report, &s.work)
}
