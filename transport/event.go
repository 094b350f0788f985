package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/httphooks"
)

// An EventType names a change in the life of a login. The names are stable.
type EventType string

// The types of events. What each means, and what to do about it, is in the
// documentation of Event.
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
//	                                                                 has a copy of the login
//	unsaved         Warn   a new refresh token is in memory only     make the cache writable, and do
//	                                                                 not end this process before saved
//	saved           Warn   it is stored now                          -
//	restored        Warn   the store had lost the login, and this    find out why: somebody flushes
//	                       process has put it back                   it, it evicts, or it was replaced
//	waiting         Warn*  Login, Logout, Forget or a refresh has    see Err: it names who works on
//	                       waited for 2 s for another that works     the login, if that is known
//	                       on the login, and waits on
//
// (*) Debug if a caller was waiting and has been told by an error: what a program is
// returned need not be logged as well.
//
// Each is told once, in the order in which they happen. An outage ends with recovered,
// login required, login or logout. The state unsaved ends with saved or, if that refresh
// token need not be saved any more, with adopted, login required, login or logout. What
// a process finds in the cache when it starts is no event.
//
// In the log, the message is the type after "stayauth: ", and the attributes are the
// fields that are set: issuer, client_id, account, generation, expiry, retry_at, took,
// attempts, and of Err kind, status, code, reuse_suspected and err, its text. More lines
// tell of trouble that changes nothing for the user, and have err: "unlock failed", "the
// journal could not be cleared", "the refusal of the refresh token could not be stored",
// "the Store panicked", "OnEvent or the Logger panicked" and, without the name of a login,
// "no look for interrupted refreshes".
type Event struct {
	Type EventType
	At   time.Time // when it happened
	Key  tokencache.Key

	// Of the token in use, if there is one.
	Generation uint64    // 1 after the login, and 1 more with every refresh
	Expiry     time.Time // zero: unknown

	// How long an attempt to get a token took, all waiting included, and how often the
	// provider was asked in it: 0 times if the cache could tell. Took is 0 only for
	// events that do not end an attempt.
	Took     time.Duration
	Attempts int

	Err     error     // an *Error: why, for refresh failed, outage, login required, unsaved, waiting and logout
	RetryAt time.Time // when the next attempt may be made, for refresh failed and outage
}

// level returns how important an event is.
func (t EventType) level() slog.Level {
	switch t {
	case EventLoginRequired, EventOutage, EventRecovered, EventUnsaved, EventSaved, EventWaiting:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// attrs returns what the log says of the event.
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

// emit takes an event down when what it tells of happens, so that the order is right
// whoever comes to deliver it. quiet says that a caller is returned it as an error, so that
// the log need not tell it again. s.mu is held.
func (s *Source) emit(ctx context.Context, e Event, quiet bool) {
	e.Key, e.At = s.key(), time.Now()
	if snap := s.cur.Load(); snap != nil && e.Generation == 0 {
		e.Generation, e.Expiry = snap.rec.Generation, snap.rec.Expiry
	}
	level := e.Type.level()
	if quiet {
		level = slog.LevelDebug
	}
	s.events.add(queuedEvent{ctx: httphooks.Without(context.WithoutCancel(ctx)), Event: e, level: level})
}

// log takes down a trouble that changes nothing in the life of the login. Like an event
// it is told when no lock is held: a log may be shipped with the token that it is about.
func (s *Source) log(ctx context.Context, level slog.Level, msg string, err error) {
	s.events.add(queuedEvent{ctx: httphooks.Without(context.WithoutCancel(ctx)), trouble: msg, level: level, cause: err})
}

// deliver tells the log and OnEvent what has happened. Neither s.mu nor the turn is held,
// so that both may use the Source.
func (s *Source) deliver() { s.events.deliver(s.report) }

// deliverWithin is deliver for somebody who waits no longer than until ctx is done: a log
// or OnEvent may hang.
func (s *Source) deliverWithin(ctx context.Context) {
	if s.events.empty() {
		return
	}
	s.mu.Lock()
	s.working++
	s.mu.Unlock()
	done := make(chan any, 1) // gets the value of a panic, which is the caller's as long as it waits
	go func() {
		defer s.ended()
		defer func() { done <- recover() }()
		s.deliver()
	}()
	select {
	case p := <-done:
		if p != nil {
			panic(p)
		}
	case <-ctx.Done():
	}
}

// deliverSafely is deliver on a goroutine that nobody else can guard: the panic of a log or
// of OnEvent ends with the event that it met.
func (s *Source) deliverSafely(ctx context.Context) {
	for done, logged := false, false; !done; {
		func() {
			defer func() {
				if done {
					return
				}
				if r := recover(); r == nil {
					done = true // The goroutine ends (runtime.Goexit); others will deliver the rest.
				} else if !logged {
					logged = true
					s.log(ctx, slog.LevelError, "OnEvent or the Logger panicked", fmt.Errorf("with a value of type %T", r))
				}
			}()
			s.deliver()
			done = true
		}()
	}
}

func (s *Source) report(e *queuedEvent) {
	if e.trouble != "" {
		s.cfg.Logger.LogAttrs(e.ctx, e.level, "stayauth: "+e.trouble, append(keyAttrs(s.key()), slog.String("err", e.cause.Error()))...)
		return
	}
	if s.cfg.Logger.Enabled(e.ctx, e.level) {
		s.cfg.Logger.LogAttrs(e.ctx, e.level, "stayauth: "+string(e.Type), e.attrs()...)
	}
	if s.cfg.OnEvent != nil {
		s.cfg.OnEvent(e.ctx, e.Event)
	}
}
