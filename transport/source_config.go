package transport

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/internal/entry"
	"github.com/stayauth/stayauth/transport/internal/upkeep"
)

// A SourceConfig says whose tokens a Source keeps, where, and how it renews them.
type SourceConfig struct {
	// Cache persists the login across restarts and shares it between processes. Required.
	Cache *tokencache.Cache

	// Refresher renews the tokens, usually an *endpoint.Endpoint. Required.
	Refresher Refresher

	// Key says which login of the cache this is. Issuer and ClientID default to those of
	// the Refresher, and are required if it has none. Audience defaults to what it asks
	// for, see Endpoint.Params in package endpoint; a login that an earlier version stored
	// without an Audience stays under that key, and is used.
	Key tokencache.Key

	// Lead is how long before its expiry a token is refreshed in the background. Default: a
	// third of the token's lifetime, at most 5 minutes, which survives a provider's restart
	// without refreshing much more often than needed. It is shortened by up to 20 % at
	// random, so that processes do not all refresh at once, and never exceeds half the
	// lifetime. A provider's refresh_in takes precedence.
	Lead time.Duration

	// Skew is how long before its expiry a token is no longer used. Default: a tenth of the
	// token's lifetime, at most 10 seconds, for the time that a request may spend in queues
	// and the error of ordinary clocks. It never exceeds a quarter of the lifetime.
	Skew time.Duration

	// RenewEvery is how often KeepFresh renews a login that nobody uses, so that its refresh
	// token does not die of disuse. Negative: never. Default: 24 h, but a quarter at most of
	// the IdleTime of the Refresher's Identity, and an eighth of its Lifetime.
	RenewEvery time.Duration

	// Timeout bounds a refresh as a whole, as a last resort: an Endpoint gives up by itself
	// when that is safe. Callers wait no longer than their own contexts allow, and for 15 s
	// at most. Default: 10 minutes, or a day with a Prober, such as an Endpoint.
	Timeout time.Duration

	// Logger logs what OnEvent is notified of: routine at level Debug, and what a person
	// should know at level Warn. Default: slog.Default().
	Logger *slog.Logger

	// OnEvent, if set, is notified of every change in the life of the login, one at a time.
	// Its context is that of the call that caused the event, without its deadline or
	// cancellation. It should return soon, because later events wait for it, and must not
	// call Close. Package transport/otelstayauth turns events into metrics and traces.
	OnEvent func(context.Context, Event)

	gate     *Gate         // of the Refresher
	idleTime time.Duration // Identity.IdleTime
	lifetime time.Duration // Identity.Lifetime
	born     time.Time     // when the process began to use the login
	entries  entry.Config  // which entries of the cache are meant
	losses   *entry.Losses // nil for a Source that is in no Pool
	checked  *atomic.Bool  // whether the settings of the store were checked
	servers  *dpop.Servers // the APIs, as far as proofs have to suit them
	copied   *atomic.Bool  // whether it was logged that the store is a copy
}

// longestWait is how long a caller waits for a token, unless its context ends first. A refresh
// may go on for minutes, see package endpoint.
const longestWait = 15 * time.Second

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
	cfg.entries = entry.Config{Cache: cfg.Cache, Target: own.Target}
	if own.Key.ClientID != "" {
		cfg.Key.Issuer = cmp.Or(cfg.Key.Issuer, own.Key.Issuer)
		cfg.Key.ClientID = cmp.Or(cfg.Key.ClientID, own.Key.ClientID)
		if cfg.Key.Audience == "" {
			cfg.Key.Audience = own.Key.Audience
			cfg.entries.Unnamed, cfg.entries.Asks = own.Former, own.NamesAudience
			cfg.entries.What = cmp.Or(own.Key.Audience, entry.ForNothing)
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
	if cfg.RenewEvery == 0 {
		cfg.RenewEvery = upkeep.Period(own.IdleTime, own.Lifetime)
	}
	cfg.idleTime, cfg.lifetime = own.IdleTime, own.Lifetime
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Minute
		if _, patient := cfg.Refresher.(Prober); patient {
			cfg.Timeout = 24 * time.Hour
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.entries.Key = cfg.Key
	cfg.gate, cfg.losses, cfg.checked, cfg.copied = cmp.Or(own.Gate, new(Gate)), nil, new(atomic.Bool), new(atomic.Bool)
	cfg.servers, cfg.born = new(dpop.Servers), time.Now()
	return nil
}
