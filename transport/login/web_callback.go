package login

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/dpop"
)

// Callback takes the provider's answer at RedirectURL, and redirects the browser: to the page
// that the login was begun for, or to this address without the code, where a page says why
// there is no login. No page is ever shown at an address that has the code in it.
//
// An answer that arrives twice, even at two replicas at the same time, is used once, and both
// requests lead on.
func (web *Web) Callback(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	switch {
	case r.Method == http.MethodPost:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET: the answer has to come in the query, so response_mode must not be form_post", http.StatusMethodNotAllowed)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case speculative(r): // The code would be spent for a page that nobody sees.
		http.Error(w, "not in advance", http.StatusServiceUnavailable)
	default:
		query, err := url.ParseQuery(r.URL.RawQuery)
		switch {
		case err != nil: // What was read of it may not be what was meant.
			web.refuse(w, r, "", "", refused(RefusedNotStarted, "start the login in this browser"))
		case query.Has("code"), query.Has("error"), query.Has("state"):
			web.answer(w, r, query)
		default:
			web.showEnd(w, r, query)
		}
	}
}

// The parameters of the address at which a failure is shown.
const (
	endedParam   = "ended"   // the id of an attempt whose cookie says how it has ended
	refusedParam = "refused" // a Refusal
)

// answer handles an answer of the provider, or what pretends to be one.
func (web *Web) answer(w http.ResponseWriter, r *http.Request, query url.Values) {
	// It goes on when the browser goes away, in the functions of the application too: the code
	// cannot be used again, and a second click is a new request that gets the same result.
	ctx, cancel := bounded(r.Context(), lockTime+exchangeTime+storeTime)
	defer cancel()
	r = r.WithContext(ctx)
	id := attemptID(query.Get("state"))
	a, ok := web.cookies.find(r, id)
	switch {
	case !ok:
		web.refuse(w, r, "", "", refused(RefusedNotStarted, "start the login in this browser"))
		return
	case a.Outcome != nil:
		web.lead(w, id, a)
		return
	case time.Now().Unix() >= a.End:
		web.refuse(w, r, "", a.Label, refused(RefusedLate, "start again"))
		return
	}
	user, err := web.user(r)
	if err == nil && subtle.ConstantTimeCompare([]byte(a.User), []byte(userHash(a.State, user))) != 1 {
		err = refused(RefusedOtherUser, "start again")
	}
	if err != nil {
		web.refuse(w, r, user, a.Label, err)
		return
	}
	former, err := web.stored(r.Context(), user, a.Label)
	if err != nil {
		web.refuse(w, r, user, a.Label, err)
		return
	}
	rq, err := web.request(r.Context(), a, former)
	if err != nil {
		web.refuse(w, r, user, a.Label, err)
		return
	}
	code, err := rq.code(query)
	if e, ok := errors.AsType[*transport.Error](err); ok && e.Code != "" { // The provider's word, which is final.
		web.emit(r.Context(), EventRefused, user, a.Label, err)
		web.end(w, id, a, outcomeOf(err))
		return
	}
	if err != nil {
		web.refuse(w, r, user, a.Label, &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Err: fmt.Errorf("%w: %w", RefusedAnswer, err)})
		return
	}
	out, err := web.complete(r, rq, id, a, user, code, others(query))
	if err != nil {
		web.refuse(w, r, user, a.Label, err)
		return
	}
	web.end(w, id, a, out)
}

// request returns the request that the attempt has sent.
func (web *Web) request(ctx context.Context, a *attempt, former *tokencache.Record) (*request, error) {
	f := &flow{Config: web.scoped(a, former), name: web.name()}
	if a.Key != "" {
		private, thumbprint, err := dpop.Expand(a.Key)
		if err != nil {
			return nil, err
		}
		if f.Endpoint, err = f.Endpoint.Bind(ctx, private, thumbprint); err != nil {
			return nil, err
		}
	}
	return &request{flow: f, redirectURI: web.cfg.RedirectURL, state: a.State, verifier: a.Verifier}, nil
}

// refuse does not end the attempt, if there is one: its genuine answer may still arrive.
func (web *Web) refuse(w http.ResponseWriter, r *http.Request, user, label string, err error) {
	web.emit(r.Context(), EventRefused, user, label, err)
	why := outcomeOf(err).Refusal
	if why == "" {
		why = outcomeOf(err).Kind
	}
	redirect(w, web.callback+"?"+url.Values{refusedParam: {why}}.Encode())
}

// end records in the attempt's cookie how it has ended, and redirects the browser. The
// cookies of other attempts stay.
func (web *Web) end(w http.ResponseWriter, id string, a *attempt, out *outcome) {
	done := &attempt{Label: a.Label, Return: cmp.Or(out.Return, a.Return), Cause: a.Cause, Outcome: out, End: time.Now().Add(web.cfg.Timeout).Unix()}
	cookie, err := web.cookies.of(id, done)
	if err != nil { // It has more to say than fits.
		done.Outcome = &outcome{Refusal: out.Refusal, Kind: out.Kind, Code: out.Code}
		cookie, err = web.cookies.of(id, done)
	}
	if err == nil {
		http.SetCookie(w, cookie)
	}
	web.lead(w, id, done)
}

// lead redirects the browser after an attempt that has ended.
func (web *Web) lead(w http.ResponseWriter, id string, a *attempt) {
	if a.Outcome.connected() {
		redirect(w, web.localOr(a.Return))
		return
	}
	redirect(w, web.callback+"?"+url.Values{endedParam: {id}}.Encode())
}

// showEnd shows the page that says why there is no login.
func (web *Web) showEnd(w http.ResponseWriter, r *http.Request, query url.Values) {
	if a, ok := web.cookies.find(r, query.Get(endedParam)); ok && a.Outcome != nil {
		if a.Outcome.connected() {
			redirect(w, web.localOr(a.Return))
			return
		}
		web.show(w, r, failureOf(a.Outcome.err(), web.localOr(a.Return)))
		return
	}
	out := &outcome{Refusal: query.Get(refusedParam)}
	if Refusal(out.Refusal).known() {
		web.show(w, r, failureOf(out.err(), web.cfg.Home))
		return
	}
	switch kind := transport.Kind(out.Refusal); kind {
	case transport.ErrStorage, transport.ErrUnavailable, transport.ErrMisconfigured:
		web.show(w, r, failureOf(&transport.Error{Kind: kind, Op: "login"}, web.cfg.Home))
	default:
		web.show(w, r, failureOf(refused(RefusedNotStarted, "start the login in this browser"), web.cfg.Home))
	}
}
