package transport

import (
	"context"
	"errors"
	"time"
)

// askTime is how long a question takes at most that nothing but time depends on, and
// longestSilence how long a provider that answers none is believed to be away, though it
// may still have a request to deal with. After that it is tried all the same: perhaps it
// is questions that it does not answer.
const (
	askTime        = 5 * time.Second
	longestSilence = 30 * time.Minute
)

// A doubt is why the provider is asked a harmless question before its refresh token is
// presented: because a request that was lost may still be answered, when a provider that was
// frozen goes on; or because there is an outage, and the end of it is to be found soon
// and without a risk.
type doubt struct {
	since       time.Time // zero: there is none
	interrupted bool      // a request was lost
	due         bool      // an attempt is, although nobody is in a hurry
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

// probe asks the provider a harmless question, if the Refresher can. It takes d at most.
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
