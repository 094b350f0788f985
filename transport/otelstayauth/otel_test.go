package otelstayauth_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A life with everything in it, and what is measured of it.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, store := newServer(t), &fullStore{}
		p := newProgram(t, srv, store)
		peer := newProgram(t, srv, store)
		p.login(srv)
		time.Sleep(2 * time.Hour)
		p.use(t.Context(), nil) // refreshed
		time.Sleep(2 * time.Hour)
		peer.use(t.Context(), nil)
		p.use(t.Context(), nil) // adopted
		time.Sleep(2 * time.Hour)
		srv.Fault("/token", 0, oauthtest.Status(429, time.Hour))
		p.use(t.Context(), transport.ErrUnavailable)
		time.Sleep(2 * time.Hour)
		p.use(t.Context(), transport.ErrUnavailable)
		srv.Heal()
		time.Sleep(2 * time.Hour)
		p.use(t.Context(), nil) // recovered
		want := map[string]string{
			"events event=login":                 "1{event}",
			"events event=refreshed":             "2{event}",
			"events event=adopted":               "1{event}",
			"events event=refresh_failed":        "2{event}",
			"events event=outage":                "1{event}",
			"events event=recovered":             "1{event}",
			"refresh.duration outcome=refreshed": "2 in 0.6s", // with the question after the outage
			"refresh.duration outcome=adopted":   "1 in 0.0s",
			"refresh.duration error.type=provider_unavailable outcome=refresh_failed": "2 in 0.0s",
		}
		p.wantMetrics(want)

		// The disk is full after the note of the attempt: how many logins are not saved?
		store.left.Store(2)
		time.Sleep(2 * time.Hour)
		p.use(t.Context(), nil)
		want["events event=refreshed"] = "3{event}"
		want["events event=unsaved"] = "1{event}"
		want["refresh.duration outcome=refreshed"] = "3 in 1.1s" // with the pauses between the saves
		want["logins.unsaved"] = "1{login}"
		p.wantMetrics(want)
		store.left.Store(0)
		time.Sleep(time.Minute)
		synctest.Wait()
		want["events event=saved"] = "1{event}"
		want["logins.unsaved"] = "0{login}"
		p.wantMetrics(want)

		// Somebody who has a copy of the login is faster.
		cache, err := tokencache.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		st, err := p.source.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rec, _, err := cache.Load(t.Context(), st.Key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newEndpoint(srv, srv.RoundTripper()).Refresh(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		p.use(t.Context(), transport.ErrLoginRequired)
		want["events event=login_required reuse_suspected=true"] = "1{event}"
		want["refresh.duration error.type=login_required outcome=login_required"] = "1 in 0.2s"
		p.wantMetrics(want)
		if err := p.source.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		want["events event=logout"] = "1{event}"
		p.wantMetrics(want)

		spans := p.spans.GetSpans()
		if len(spans) != 7 {
			t.Errorf("%d spans", len(spans))
		}
		var all metricdata.ResourceMetrics
		if err := p.reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		recorded := fmt.Sprintf("%+v %+v", spans, all)
		if !strings.Contains(recorded, srv.TokenURL()) {
			t.Error("not even the issuer is found in what was recorded")
		}
		for _, secret := range append(srv.Secrets(), account) {
			if secret != "" && strings.Contains(recorded, secret) {
				t.Errorf("recorded: a secret, or the account, that begins with %.3s", secret)
			}
		}
	})
}

// The span of each way in which an attempt may end.
func TestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, store := newServer(t), &fullStore{}
		p, peer := newProgram(t, srv, store), newProgram(t, srv, store)
		p.login(srv)
		want := func(begun time.Time, took time.Duration, status codes.Code, attributes string) tracetest.SpanStub {
			t.Helper()
			s := p.span()
			if s.StartTime.Sub(begun).Abs() > time.Microsecond || (s.EndTime.Sub(s.StartTime)-took).Abs() > time.Microsecond {
				t.Errorf("%v long, and %v late", s.EndTime.Sub(s.StartTime), s.StartTime.Sub(begun))
			}
			if s.Status.Code != status || attrs(s) != attributes {
				t.Errorf("%s %v, want %v %s", attrs(s), s.Status, status, attributes)
			}
			return s
		}

		time.Sleep(2 * time.Hour)
		begun := time.Now()
		p.use(t.Context(), nil)
		s := want(begun, latency, codes.Unset, "stayauth.attempts=1 stayauth.generation=2 stayauth.outcome=refreshed")
		if s.Parent.IsValid() {
			t.Error("a parent, although nobody is traced")
		}

		time.Sleep(2 * time.Hour)
		peer.use(t.Context(), nil)
		begun = time.Now()
		p.use(t.Context(), nil)
		want(begun, 0, codes.Unset, "stayauth.attempts=0 stayauth.generation=3 stayauth.outcome=adopted")

		// A call that is traced, and that is over long before the refresh it has started.
		time.Sleep(57 * time.Minute)
		begun = time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		ctx, caller := p.tracer.Tracer("test").Start(ctx, "request")
		if _, err := p.source.Token(ctx); err != nil {
			t.Fatal(err)
		}
		caller.End()
		cancel()
		p.spans.Reset() // of the span of the caller
		time.Sleep(time.Minute)
		s = want(begun, latency, codes.Unset, "stayauth.attempts=1 stayauth.generation=4 stayauth.outcome=refreshed")
		if s.Parent.SpanID() != caller.SpanContext().SpanID() || s.SpanContext.TraceID() != caller.SpanContext().TraceID() {
			t.Errorf("the parent is %v, and the caller %v", s.Parent, caller.SpanContext())
		}
		if !p.asked.Equal(caller.SpanContext()) {
			t.Errorf("the provider was asked for %v, and not for the caller", p.asked)
		}

		time.Sleep(2 * time.Hour)
		srv.Fault("/token", 1, oauthtest.Status(503, time.Minute))
		begun = time.Now()
		p.use(t.Context(), transport.ErrAmbiguous)
		s = want(begun, 0, codes.Error, "error.type=outcome_unknown http.response.status_code=503 stayauth.attempts=1 stayauth.generation=4 stayauth.outcome=refresh_failed")
		if !strings.Contains(s.Status.Description, "HTTP 503") {
			t.Errorf("status %q", s.Status.Description)
		}

		srv.RevokeFamily(srv.Current(account).RefreshToken)
		time.Sleep(time.Hour)
		begun = time.Now()
		p.use(t.Context(), transport.ErrLoginRequired)
		// Nobody can tell what became of the attempt before, so a question goes first.
		want(begun, 2*latency, codes.Error, "error.type=login_required stayauth.attempts=1 stayauth.error.code=invalid_grant stayauth.generation=4 stayauth.outcome=login_required stayauth.reuse_suspected=true")
	})
}
