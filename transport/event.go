package transport

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/httphooks"
)

// An EventType names a kind of change in the life of a login. The names are stable.
type EventType string

// The types of events. The documentation of Event says what each means and what to do about it.
const (
	EventLogin         EventType = "login"
	EventLogout        EventType = "logout"
	EventRefreshed     EventType = "refreshed"
	EventAdopted       EventType = "adopted"
	EventRefreshFailed EventType = "refresh failed"
	EventOutage        EventType = "outage"
	EventRecovered     EventType = "recovered"
	EventLoginRequired EventType = "login required"
	EventUnsaved       EventType = "unsaved"
	EventSaved         EventType = "saved"
	EventRestored      EventType = "restored"
	EventWaiting       EventType = "waiting"
	EventEnding        EventType = "ending"
)

// An Event is one change in the life of a login, as one Source sees it. It holds no
// secret.
//
//	type            level  what happened                             what to do
//	--------------  -----  ----------------------------------------  ----------------------------------
//	login           Debug  this process stored a new login           -
//	logout          Debug  this process removed the login            if Err is set, its tokens live
//	                                                                 on at the provider: say so
//	refreshed       Debug  this process renewed the token            -
//	adopted         Debug  another process had renewed it, or        -
//	                       logged in anew
//	refresh failed  Debug  an attempt to get a token failed          see outage
//	outage          Warn*  the first that failed, or whose answer    see Err: wait, or fix what it
//	                       is overdue; the token in use is served    says; the login is kept
//	                       until Expiry, and the next attempt is
//	                       due at RetryAt
//	recovered       Warn*  the outage is over                        -
//	login required  Warn*  nothing is stored, or the provider has    log in again; if ReuseSuspected
//	                       refused the refresh token                 is set in Err, find out who else
//	                                                                 has a copy of the login, or what
//	                                                                 the store has lost
//	unsaved         Warn   a new refresh token is in memory only     make the cache writable, and do
//	                                                                 not end this process before saved
//	saved           Warn   it is stored now                          -
//	restored        Warn   the store had lost the login, and this    find out why: somebody flushes
//	                       process has put it back                   it, it evicts, or it was replaced
//	waiting         Warn*  Login, Logout, Forget or a refresh has    see Err: it names who works on
//	                       waited for 2 s for another that works     the login, if that is known
//	                       on the login, and waits on
//	ending          Warn   the provider ends the login at Ends,      ask the user to log in again
//	                       whatever is done                          before that
//
// (*) Debug if a caller was waiting and gets the error: what is returned to the program need
// not be logged as well.
//
// An ending is announced once, whichever process does it, by the refresh that is the first in
// the last quarter of the login's life, and in its last week: if the provider's answers show that
// refreshes do not postpone the end, or if the Refresher's Identity has a Lifetime.
//
// Each event is delivered once, in the order in which they happen. An outage ends with
// recovered, login required, login or logout. The state unsaved ends with saved or, if that
// refresh token need not be saved any more, with adopted, login required, login or logout. What
// a process finds in the cache when it starts is not an event.
//
// In the log, the message is the type after "stayauth: ", and the attributes are the fields
// that are set: issuer, client_id, account, generation, expiry, retry_at, ends, took, attempts, and
// of Err kind, status, code, reuse_suspected and err, its text. Further messages report trouble
// that changes nothing for the user yet, and have err: "unlock failed", "a refresh token was spent
// twice", after which the provider may end the login, "the journal could not be cleared", "the
// refusal of the refresh token could not be stored", "the Store panicked", "OnEvent or the Logger
// panicked"; once per process, "the store should be set up differently", see tokencache.Checker,
// and "the store is a copy of another one", see tokencache.ErrCopy; and, without the name of a
// login, "no look for interrupted refreshes", "an unused login cannot be read", and "unused
// logins cannot be renewed", which is a warning until one was, see Pool.KeepFresh. The failure to
// renew an unused login is a refresh failed without an outage, unless somebody needs the token
// before it is over.
type Event struct {
	Type EventType
	At   time.Time // when it happened
	Key  tokencache.Key

	// These describe the token in use, if there is one.
	Generation uint64    // 1 after the login, and 1 more with every refresh
	Expiry     time.Time // zero: unknown

	// How long an attempt to get a token took, all waiting included, and how many requests
	// to the provider it made: none if the cache had the token. Took is 0 only for events
	// that do not end an attempt.
	Took     time.Duration
	Attempts int

	Ends    time.Time // when the login ends, for ending
	Err     error     // an *Error: why, for refresh failed, outage, login required, unsaved, waiting and logout
	RetryAt time.Time // when the next attempt may be made, for refresh failed and outage
}

// level returns how important an event is.
func (t EventType) level() slog.Level {
	switch t {
	case EventLoginRequired, EventOutage, EventRecovered, EventUnsaved, EventSaved, EventRestored, EventWaiting, EventEnding:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// attrs returns the event as the log shows it.
func (e *Event) attrs() []slog.Attr {
	attrs := keyAttrs(e.Key)
	if e.Generation != 0 {
		attrs = append(attrs, slog.Uint64("generation", e.Generation))
	}
	if !e.Expiry.IsZero() {
		attrs = append(attrs, slog.Time("expiry", e.Expiry))
	}
	if !e.RetryAt.IsZero() {
		attrs = append(attrs, slog.Time("retry_at", e.RetryAt))
	}
	if !e.Ends.IsZero() {
		attrs = append(attrs, slog.Time("ends", e.Ends))
	}
	if e.Took != 0 {
		attrs = append(attrs, slog.Duration("took", e.Took))
	}
	if e.Attempts != 0 {
		attrs = append(attrs, slog.Int("attempts", e.Attempts))
	}
	if err, ok := errors.AsType[*Error](e.Err); ok {
		attrs = append(attrs, slog.String("kind", string(err.Kind)))
		if err.Status != 0 {
			attrs = append(attrs, slog.Int("status", err.Status))
		}
		if err.Code != "" {
			attrs = append(attrs, slog.String("code", err.Code))
		}
		if err.ReuseSuspected {
			attrs = append(attrs, slog.Bool("reuse_suspected", true))
		}
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	return attrs
}

func keyAttrs(k tokencache.Key) []slog.Attr {
	return []slog.Attr{
		slog.String("issuer", k.Issuer),
		slog.String("client_id", k.ClientID),
		slog.String("account", k.Account),
	}
}

// A queuedEvent is an event with the context of the call that caused it, or trouble that
// changes nothing in the life of the login and is only logged.
type queuedEvent struct {
	ctx context.Context
	Event
	level slog.Level

	trouble string
	cause   error
}

// detached returns ctx for work that outlives the call.
func detached(ctx context.Context) context.Context {
	return httphooks.Without(context.WithoutCancel(ctx))
}

// report writes e to the log and notifies OnEvent.
func (cfg *SourceConfig) report(e *queuedEvent) {
	if e.trouble != "" {
		cfg.Logger.LogAttrs(e.ctx, e.level, "stayauth: "+e.trouble, append(keyAttrs(e.Key), slog.String("err", e.cause.Error()))...)
		return
	}
	if cfg.Logger.Enabled(e.ctx, e.level) {
		cfg.Logger.LogAttrs(e.ctx, e.level, "stayauth: "+string(e.Type), e.attrs()...)
	}
	if cfg.OnEvent != nil {
		cfg.OnEvent(e.ctx, e.Event)
	}
}
