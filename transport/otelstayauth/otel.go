package otelstayauth

import (
	"context"
	"errors"
	"strings"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// scope names this package to OpenTelemetry.
const scope = "github.com/stayauth/stayauth/transport/otelstayauth"

// A Config says where metrics and traces go.
type Config struct {
	// MeterProvider creates the instruments. Default: otel.GetMeterProvider(), which may
	// also be set later.
	MeterProvider metric.MeterProvider

	// TracerProvider creates the spans. Default: otel.GetTracerProvider(), likewise.
	TracerProvider trace.TracerProvider
}

// OnEvent returns a function for transport.SourceConfig.OnEvent that records every event. It is
// safe for concurrent use. Errors of OpenTelemetry are reported to its error handler, see
// otel.Handle.
func OnEvent(cfg Config) func(context.Context, transport.Event) {
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	meter := cfg.MeterProvider.Meter(scope)
	r := &recorder{tracer: cfg.TracerProvider.Tracer(scope), saving: make(map[tokencache.Key]bool)}
	var errs [3]error
	r.duration, errs[0] = meter.Float64Histogram("stayauth.refresh.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of attempts to get an access token."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60))
	r.events, errs[1] = meter.Int64Counter("stayauth.events", metric.WithUnit("{event}"),
		metric.WithDescription("Changes in the life of logins."))
	r.unsaved, errs[2] = meter.Int64UpDownCounter("stayauth.logins.unsaved", metric.WithUnit("{login}"),
		metric.WithDescription("Logins whose newest refresh token is only in the memory of this process."))
	if err := errors.Join(errs[:]...); err != nil {
		otel.Handle(err)
	}
	return r.record
}

// A recorder turns events into measurements and spans.
type recorder struct {
	tracer   trace.Tracer
	duration metric.Float64Histogram
	events   metric.Int64Counter
	unsaved  metric.Int64UpDownCounter

	mu     sync.Mutex
	saving map[tokencache.Key]bool // the logins that unsaved counts
}

func (r *recorder) record(ctx context.Context, e transport.Event) {
	err, _ := errors.AsType[*transport.Error](e.Err)
	login := []attribute.KeyValue{
		attribute.String("stayauth.issuer", e.Key.Issuer),
		attribute.String("stayauth.client_id", e.Key.ClientID),
	}
	if e.Took > 0 {
		ctx = r.attempt(ctx, e, err, login)
	}
	event := append(login[:len(login):len(login)], attribute.String("stayauth.event", name(string(e.Type))))
	if err != nil && err.ReuseSuspected {
		event = append(event, attribute.Bool("stayauth.reuse_suspected", true))
	}
	r.events.Add(ctx, 1, metric.WithAttributes(event...))
	if n := r.countUnsaved(e); n != 0 {
		r.unsaved.Add(ctx, n, metric.WithAttributes(login...))
	}
}

// attempt records an attempt that has ended. It returns ctx with the span of the attempt, so
// that measurements lead to it.
func (r *recorder) attempt(ctx context.Context, e transport.Event, err *transport.Error, login []attribute.KeyValue) context.Context {
	attrs := append(login[:len(login):len(login)], attribute.String("stayauth.outcome", name(string(e.Type))))
	if err != nil {
		attrs = append(attrs, attribute.String("error.type", name(string(err.Kind))))
	}
	ctx, span := r.tracer.Start(ctx, "stayauth refresh", trace.WithTimestamp(e.At.Add(-e.Took)), trace.WithAttributes(attrs...),
		trace.WithAttributes(attribute.Int64("stayauth.generation", int64(e.Generation)), attribute.Int("stayauth.attempts", e.Attempts)))
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		if err.Status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", err.Status))
		}
		if err.Code != "" {
			span.SetAttributes(attribute.String("stayauth.error.code", err.Code))
		}
		if err.ReuseSuspected {
			span.SetAttributes(attribute.Bool("stayauth.reuse_suspected", true))
		}
	}
	span.End(trace.WithTimestamp(e.At))
	r.duration.Record(ctx, e.Took.Seconds(), metric.WithAttributes(attrs...))
	return ctx
}

// countUnsaved returns by how much the event changes the number of unsaved logins.
func (r *recorder) countUnsaved(e transport.Event) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Type {
	case transport.EventUnsaved:
		if !r.saving[e.Key] {
			r.saving[e.Key] = true
			return 1
		}
	case transport.EventSaved, transport.EventAdopted, transport.EventLoginRequired, transport.EventLogin, transport.EventLogout:
		if r.saving[e.Key] {
			delete(r.saving, e.Key)
			return -1
		}
	}
	return 0
}

// name returns a name of package transport as OpenTelemetry writes values.
func name(s string) string { return strings.ReplaceAll(s, " ", "_") }
