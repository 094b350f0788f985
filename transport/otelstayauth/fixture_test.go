package otelstayauth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/otelstayauth"
)

// A program is a process that records what happens to its login.
type program struct {
	t      *testing.T
	base   http.RoundTripper
	source *transport.Source
	reader *metric.ManualReader
	spans  *tracetest.InMemoryExporter
	tracer *trace.TracerProvider
	asked  oteltrace.SpanContext // of the last request to the provider
}

// RoundTrip notes whose span a request to the provider belongs to.
func (p *program) RoundTrip(r *http.Request) (*http.Response, error) {
	p.asked = oteltrace.SpanContextFromContext(r.Context())
	return p.base.RoundTrip(r)
}

const (
	account = "ann@example.com"
	latency = 200 * time.Millisecond // of the provider
)

func newServer(t *testing.T) *oauthtest.Server {
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: latency})
	t.Cleanup(srv.Close)
	return srv
}

func newEndpoint(srv *oauthtest.Server, base http.RoundTripper) *endpoint.Endpoint {
	return &endpoint.Endpoint{
		TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), ClientSecret: tokencache.Secret(srv.ClientSecret()),
		AuthStyle: oauth2.AuthStyleInHeader, Base: base,
	}
}

func newProgram(t *testing.T, srv *oauthtest.Server, store tokencache.Store) *program {
	t.Helper()
	p := &program{t: t, base: srv.RoundTripper(), reader: metric.NewManualReader(), spans: tracetest.NewInMemoryExporter()}
	p.tracer = trace.NewTracerProvider(trace.WithSyncer(p.spans))
	cache, err := tokencache.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.source, err = transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Key:       tokencache.Key{Account: account},
		Logger:    slog.New(slog.DiscardHandler),
		Refresher: newEndpoint(srv, p),
		OnEvent: otelstayauth.OnEvent(otelstayauth.Config{
			MeterProvider:  metric.NewMeterProvider(metric.WithReader(p.reader)),
			TracerProvider: p.tracer,
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *program) login(srv *oauthtest.Server) {
	p.t.Helper()
	tokens := srv.Login(account)
	rec := &tokencache.Record{
		AccessToken: tokencache.Secret(tokens.AccessToken), RefreshToken: tokencache.Secret(tokens.RefreshToken), Expiry: tokens.Expiry,
	}
	if err := p.source.Login(p.t.Context(), rec); err != nil {
		p.t.Fatal(err)
	}
}

// use asks for a token, and waits until what that has caused is recorded.
func (p *program) use(ctx context.Context, want error) {
	p.t.Helper()
	if _, err := p.source.Token(ctx); !errors.Is(err, want) {
		p.t.Errorf("got %v, want %v", err, want)
	}
	synctest.Wait()
}

// metrics returns what was measured: the values of the counters, and how often and how
// long of the histogram, by name and attributes other than those that all have.
func (p *program) metrics() map[string]string {
	p.t.Helper()
	var all metricdata.ResourceMetrics
	if err := p.reader.Collect(context.Background(), &all); err != nil {
		p.t.Fatal(err)
	}
	values := map[string]string{}
	set := func(m metricdata.Metrics, attrs attribute.Set, format string, args ...any) {
		name := strings.TrimPrefix(m.Name, "stayauth.")
		for _, a := range attrs.ToSlice() {
			switch a.Key {
			case "stayauth.issuer", "stayauth.client_id":
			default:
				name += fmt.Sprintf(" %s=%s", strings.TrimPrefix(string(a.Key), "stayauth."), a.Value.String())
			}
		}
		if _, ok := attrs.Value("stayauth.issuer"); !ok {
			p.t.Errorf("%s has no issuer", name)
		}
		values[name] = fmt.Sprintf(format, args...) + m.Unit
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, d := range data.DataPoints {
					set(m, d.Attributes, "%d", d.Value)
				}
			case metricdata.Histogram[float64]:
				for _, d := range data.DataPoints {
					set(m, d.Attributes, "%d in %.1f", d.Count, d.Sum)
				}
			default:
				p.t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	return values
}

func (p *program) wantMetrics(want map[string]string) {
	p.t.Helper()
	got := p.metrics()
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if want[name] != got[name] {
			p.t.Errorf("%s: %s, want %q", name, got[name], want[name])
		}
	}
	for name := range want {
		if got[name] == "" {
			p.t.Errorf("there is no %s", name)
		}
	}
}

// span returns the only span since it was last called.
func (p *program) span() tracetest.SpanStub {
	p.t.Helper()
	spans := p.spans.GetSpans()
	p.spans.Reset()
	if len(spans) != 1 || spans[0].Name != "stayauth refresh" {
		p.t.Fatalf("%d spans: %+v", len(spans), spans)
	}
	return spans[0]
}

// attrs returns the attributes of a span other than those that all have.
func attrs(s tracetest.SpanStub) string {
	var all []string
	for _, a := range s.Attributes {
		switch a.Key {
		case "stayauth.issuer", "stayauth.client_id":
		default:
			all = append(all, fmt.Sprintf("%s=%s", a.Key, a.Value.String()))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// A fullStore has room for so many saves, or for any number if that is 0.
type fullStore struct {
	tokencache.Memory
	left atomic.Int32
}

func (s *fullStore) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if left := s.left.Load(); left == 1 {
		return "", fmt.Errorf("no space left: %w", tokencache.ErrUnavailable)
	} else if left > 1 {
		s.left.Add(-1)
	}
	return s.Memory.Save(ctx, name, data, old)
}
