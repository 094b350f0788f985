// Package otelstayauth turns what happens to logins into OpenTelemetry metrics and traces. It
// is built on the events of package transport, and uses nothing that a program could not use as
// well:
//
//	source, err := transport.NewSource(transport.SourceConfig{
//		Cache:     cache,
//		Refresher: endpoint,
//		OnEvent:   otelstayauth.OnEvent(otelstayauth.Config{}),
//	})
//
// One function can serve all Sources and Pools of a program. A program that also wants the
// events for itself can call it from a function of its own.
//
// # Metrics
//
//	instrument                 kind             unit     attributes
//	-------------------------  ---------------  -------  -----------------------------------------
//	stayauth.refresh.duration  histogram        s        stayauth.outcome, error.type
//	stayauth.events            counter          {event}  stayauth.event, stayauth.reuse_suspected
//	stayauth.logins.unsaved    up-down counter  {login}
//
// The histogram has one measurement for every event that ends an attempt to get a token, so its
// count is the number of attempts, by stayauth.outcome: refreshed, adopted (another process was
// faster), refresh_failed or login_required. The time is that of the whole attempt: the lock
// that processes share, the provider, retries, and the durable save. A caller without a good
// token waits for 15 s of that at most.
//
// The counter counts every event by its type in stayauth.event, such as outage, recovered or
// unsaved; see transport.Event for what they mean and what to do about them. If the refresh
// token that was refused may have been used by somebody else, stayauth.reuse_suspected is true.
//
// The up-down counter is the number of logins whose newest refresh token is not stored yet:
// while it is above 0, this process must not be ended.
//
// All instruments have the attributes stayauth.issuer and stayauth.client_id, with as many
// values as the program configures. Failed attempts have error.type: login_required,
// misconfigured, provider_unavailable, outcome_unknown or token_cache, after transport.Kind.
// There is no attribute for the account, neither here nor in traces: there are too many
// accounts, and they are people.
//
// What to alert on: any login_required that a user did not expect, unsaved above 0 for minutes,
// and refresh_failed without refreshed. An outage of some seconds is no reason for an alert:
// handling it is what this library is for.
//
// # Traces
//
// There is a span "stayauth refresh" for every such attempt, with its true start and end, the
// attributes above, stayauth.generation, stayauth.attempts (the number of requests to the token
// endpoint), and, for a failure, http.response.status_code, stayauth.error.code (the OAuth
// error code) and the text of the error, which holds no secret, as status.
//
// An attempt serves all callers that wait for it, and goes on when they have left. Its span is
// a child of the span of the call that started it, and may end after that; other callers share
// its outcome, but their traces do not show it. An attempt that was started without a span, by
// Source.KeepFresh for instance, is the root of a trace. If Endpoint.Base traces the requests
// to the provider, their spans are siblings of it, because the same call has caused them.
package otelstayauth
