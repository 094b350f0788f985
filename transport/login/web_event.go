package login

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// The types of the events of a Web.
const (
	EventStarted      transport.EventType = "login started"
	EventConnected    transport.EventType = "connected"
	EventReconnected  transport.EventType = "reconnected"  // in place of another login
	EventDisconnected transport.EventType = "disconnected" // if Err is set, the tokens live on at the provider
	EventRefused      transport.EventType = "refused"      // Err wraps a Refusal, or says what the provider did
)

// loginKey is that of a login, for events.
func (web *Web) loginKey(user, label string) tokencache.Key {
	k := web.key
	k.Account = text.Printable(user)
	if label != "" {
		k = k.WithLabel(text.Printable(label))
	}
	return k
}

// emit tells the log and OnEvent.
func (web *Web) emit(ctx context.Context, t transport.EventType, user, label string, err error) {
	ctx = context.WithoutCancel(ctx)
	e := transport.Event{Type: t, At: time.Now(), Key: web.loginKey(user, label), Err: err}
	if level := levelOf(err); web.cfg.Logger.Enabled(ctx, level) {
		attrs := []slog.Attr{slog.String("issuer", e.Key.Issuer), slog.String("client_id", e.Key.ClientID), slog.String("account", text.Printable(user))}
		if label != "" {
			attrs = append(attrs, slog.String("label", text.Printable(label)))
		}
		if err != nil {
			attrs = append(attrs, slog.String("err", err.Error()))
		}
		web.cfg.Logger.LogAttrs(ctx, level, "stayauth: "+string(t), attrs...)
	}
	if web.cfg.OnEvent != nil {
		web.cfg.OnEvent(ctx, e)
	}
}

// levelOf returns how loud an event is. What users and attackers do is routine.
func levelOf(err error) slog.Level {
	switch {
	case errors.Is(err, context.Canceled): // The browser has gone, which is no fault of the store.
		return slog.LevelDebug
	case errors.Is(err, errCookieTooLong): // The browser chooses the label and the return address.
		return slog.LevelDebug
	}
	e, ok := errors.AsType[*transport.Error](err)
	why, refusal := errors.AsType[Refusal](err)
	if ok && (!refusal || why == RefusedAnswer) && (e.Kind == transport.ErrMisconfigured && !errors.Is(e, errors.ErrUnsupported) || e.Kind == transport.ErrStorage) {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// warnOfClock warns, once, of a wrong clock that is no obstacle to a login: if the replicas'
// clocks differ, a callback may seem late at one of them.
func (web *Web) warnOfClock(ctx context.Context, f *flow) {
	if err := f.checkClock(ctx); err != nil {
		web.warned.Do(func() {
			web.cfg.Logger.LogAttrs(context.WithoutCancel(ctx), slog.LevelWarn, "stayauth: the clock is wrong", slog.String("err", err.Error()))
		})
	}
}
