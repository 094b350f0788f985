// Package otelstayauth turns what happens to logins into OpenTelemetry metrics
// and traces. It is built on the events of package transport, of which it needs nothing
// that a program does not see too:
//
//	source, err := transport.NewSource(transport.SourceConfig{
//		Cache:     cache,
//		Refresher: endpoint,
//		OnEvent:   otelstayauth.OnEvent(otelstayauth.Config{}),
//	})
//
// One function serves as many Sources and Pools as a program has. A program that wants
// the events for itself as well calls it from a function of its own.
//
// # Metrics
//
//	instrument                 kind             unit     attributes
//	-------------------------  ---------------  -------  -----------------------------------------
//	stayauth.refresh.duration  histogram        s        stayauth.outcome, error.type
//	stayauth.events            counter          {event}  stayauth.event, stayauth.reuse_suspected
//	stayauth.logins.unsaved    up-down counter  {login}
//
// The histogram has one measurement for every event that ends an attempt to get a token,
// so its count is how many there were: by stayauth.outcome, which is refreshed, adopted
// (another process had been faster), refresh_failed or login_required. The time is that of
// the whole attempt: the lock that processes share, the provider, retries, and the durable
// save. A caller without a good token waits for 15 s of it at most.
//
// The counter has every event by its type in stayauth.event, such as outage, recovered
// or unsaved; see transport.Event for what they mean and what to do about them. Where a
// refresh token was refused that somebody else may have used, stayauth.reuse_suspected
// is true.
//
// The up-down counter says how many logins this process must not be ended with, because
// their newest refresh token is not stored yet.
//
// Whatever is measured has the attributes stayauth.issuer and stayauth.client_id, of
// which a program has as many as it configures. Attempts that failed have error.type:
// login_required, misconfigured, provider_unavailable, outcome_unknown or token_cache,
// after transport.Kind. There is no attribute for the account, neither here nor in
// traces: there are too many of them, and they are persons.
//
// What to alert on: any login_required that a user did not expect, unsaved above 0 for
// minutes, and refresh_failed without refreshed. An outage of seconds is no reason: it
// is what this library is for.
//
// # Traces
//
// There is a span "stayauth refresh" for every such attempt, with its true beginning and end,
// the attributes above, stayauth.generation, stayauth.attempts (the requests to the
// token endpoint), and of a failure http.response.status_code, stayauth.error.code (the
// OAuth error code) and the text of the error as status, which holds no secret.
//
// An attempt serves all callers who wait for it, and it goes on when they have left. Its
// span is a child of the span of the call that started it, and may end after it; others
// who wait share its outcome, and their traces do not show it. An attempt that no call
// has started, as by Source.KeepFresh without a span, is the root of a trace. The
// requests to the provider are siblings of it, if Endpoint.Base traces them: the same
// call has caused them.
package otelstayauth
