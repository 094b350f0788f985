package transport

import (
	"context"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// An EventType names a change in the life of a login. The names are stable, and
// are the messages of the log.
type EventType string

// The types of events.
const (
	EventLogin         EventType = "login"          // a new login was stored
	EventLogout        EventType = "logout"         // the login was ended by this process
	EventRefreshed     EventType = "refreshed"      // this process renewed the token
	EventAdopted       EventType = "adopted"        // another process had renewed it
	EventLoginRequired EventType = "login required" // the login is over; see Err
	EventOutage        EventType = "outage"         // no token can be had for now; see Err and RetryAt
	EventRecovered     EventType = "recovered"      // the outage is over
	EventUnsaved       EventType = "unsaved"        // a new refresh token could not be stored; see Err
	EventSaved         EventType = "saved"          // now it is
)

// An Event is one change in the life of a login. It holds no secret.
type Event struct {
	Type       EventType
	Key        tokencache.Key
	Generation uint64        // how often the login has been refreshed
	Expiry     time.Time     // of the access token
	RetryAt    time.Time     // when the next attempt may be made
	Took       time.Duration // how long it took, all waiting included
	Err        error
}

// emit tells the log and OnEvent. s.mu is not held.
func (s *Source) emit(e Event) {
	e.Key = s.key()
	level := slog.LevelDebug
	switch e.Type {
	case EventLoginRequired, EventOutage, EventRecovered, EventUnsaved, EventSaved:
		level = slog.LevelWarn
	}
	if ctx := context.Background(); s.cfg.Logger.Enabled(ctx, level) {
		attrs := []slog.Attr{
			slog.String("issuer", e.Key.Issuer),
			slog.String("client_id", e.Key.ClientID),
			slog.String("account", e.Key.Account),
			slog.Uint64("generation", e.Generation),
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
		if e.Err != nil {
			attrs = append(attrs, slog.String("err", e.Err.Error()))
		}
		s.cfg.Logger.LogAttrs(ctx, level, "stayauth: "+string(e.Type), attrs...)
	}
	if s.cfg.OnEvent != nil {
		s.cfg.OnEvent(e)
	}
}
