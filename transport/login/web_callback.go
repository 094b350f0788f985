package login

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// Callback takes the provider's answer, at RedirectURL. The browser is sent on at once, to
// the page that the login was begun for, or to this address without the code, where the
// page is that says why there is no login. It never shows a page at the address that has
// the code in it.
//
// An answer that comes twice, to two replicas at the same time for instance, is used once,
// and leads on both times.
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
			web.tell(w, r, query)
		}
	}
}

// The parameters of the address that a failure is told at.
const (
	endedParam   = "ended"   // the id of an attempt whose cookie says how it has ended
	refusedParam = "refused" // a Refusal
)

// answer deals with an answer of the provider, or with what pretends to be one.
func (web *Web) answer(w http.ResponseWriter, r *http.Request, query url.Values) {
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
	rq := web.request(a, former)
	code, err := rq.code(query)
	if e, ok := errors.AsType[*transport.Error](err); ok && e.Code != "" { // The provider's word, which is final.
		web.end(w, r, id, a, user, outcomeOf(err))
		return
	}
	if err != nil {
		web.refuse(w, r, user, a.Label, &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Err: errors.Join(RefusedAnswer, err)})
		return
	}
	out, err := web.complete(r, rq, id, a, user, code, others(query))
	if err != nil {
		web.refuse(w, r, user, a.Label, err)
		return
	}
	web.end(w, r, id, a, user, out)
}

// request returns the request that the attempt has sent.
func (web *Web) request(a *attempt, former *tokencache.Record) *request {
	f := &flow{Config: web.scoped(a, former), name: web.name()}
	return &request{flow: f, redirectURI: web.cfg.RedirectURL, state: a.State, verifier: a.Verifier}
}

// refuse does not end the attempt, if there is one: its genuine answer may still come.
func (web *Web) refuse(w http.ResponseWriter, r *http.Request, user, label string, err error) {
	web.emit(r.Context(), EventRefused, user, label, err)
	why := outcomeOf(err).Refusal
	if why == "" {
		why = outcomeOf(err).Kind
	}
	redirect(w, web.callback+"?"+url.Values{refusedParam: {why}}.Encode())
}

// end keeps in the cookie of the attempt how it has ended, and sends the browser on. The
// cookies of other attempts stay.
func (web *Web) end(w http.ResponseWriter, r *http.Request, id string, a *attempt, user string, out *outcome) {
	if !out.connected() {
		web.emit(r.Context(), EventRefused, user, a.Label, out.err())
	}
	done := &attempt{Label: a.Label, Return: cmp.Or(out.Return, a.Return), Cause: a.Cause, Outcome: out, End: time.Now().Add(web.cfg.Timeout).Unix()}
	for web.cookies.set(w, id, done) != nil { // It has more to say than fits.
		if done.Outcome.Description == "" {
			break
		}
		done.Outcome = &outcome{Refusal: out.Refusal, Kind: out.Kind, Code: out.Code}
	}
	web.lead(w, id, done)
}

// lead sends the browser on after an attempt that has ended.
func (web *Web) lead(w http.ResponseWriter, id string, a *attempt) {
	if a.Outcome.connected() {
		redirect(w, web.localOr(a.Return))
		return
	}
	redirect(w, web.callback+"?"+url.Values{endedParam: {id}}.Encode())
}

// tell shows the page that says why there is no login.
func (web *Web) tell(w http.ResponseWriter, r *http.Request, query url.Values) {
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

// What is done for an answer is bounded, and does not end when the browser goes away.
const (
	exchangeTime = 2 * time.Minute
	storeTime    = 2*time.Minute + 10*time.Second // Source.Login waits for two minutes for a refresh that is at work
	storeTries   = 3                              // a second apart
)

// bounded returns a context that lives as long as the work takes.
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), d)
}

// complete exchanges the code, once however often it comes, and stores the login. An error
// means that nothing was done with the code.
func (web *Web) complete(r *http.Request, rq *request, id string, a *attempt, user, code string, params url.Values) (*outcome, error) {
	j, err := web.openJournal(r.Context(), user)
	if err != nil {
		return nil, err
	}
	defer j.close()
	ctx := context.WithoutCancel(r.Context())
	if out, err := web.earlier(ctx, j, id, user, a.Label); out != nil || err != nil {
		return out, err
	}
	if err := j.write(ctx, id, nil); err != nil {
		return nil, err
	}
	out := web.obtain(r, rq, id, a, user, code, params)
	// If this fails, what comes again finds the login itself, or is told to start again.
	j.write(ctx, id, out)
	return out, nil
}

// earlier returns how the attempt has ended, if it has.
func (web *Web) earlier(ctx context.Context, j *journal, id, user, label string) (*outcome, error) {
	out, known := j.attempts[id]
	if !known {
		return nil, nil
	}
	if out.Outcome != nil {
		return out.Outcome, nil
	}
	// Whoever has exchanged the code has died since: nobody else has the lock.
	rec, err := web.stored(ctx, user, label)
	if err != nil {
		return nil, err
	}
	if rec != nil && rec.LoginID == id {
		return new(outcome), nil
	}
	return outcomeOf(refused(RefusedInterrupted, "start again")), nil
}

// obtain exchanges the code and stores the login.
func (web *Web) obtain(r *http.Request, rq *request, id string, a *attempt, user, code string, params url.Values) *outcome {
	ctx, cancel := bounded(r.Context(), exchangeTime)
	defer cancel()
	rec, err := rq.exchange(ctx, code)
	if err != nil {
		return outcomeOf(err)
	}
	rec.Key, rec.LoginID = tokencache.Key{Issuer: web.key.Issuer, ClientID: web.key.ClientID}, id
	keep(rec, params)
	res := &Result{User: user, Label: a.Label, Record: rec, Return: a.Return, Temporary: rec.RefreshToken == "",
		MissingScopes: more(strings.Fields(rec.Scope), rq.Endpoint.Scopes)}
	res.MissingScopes = slices.DeleteFunc(res.MissingScopes, func(s string) bool {
		return s == "offline_access" && rec.RefreshToken != "" // Some providers grant it without listing it.
	})
	ctx, cancel = bounded(ctx, storeTime)
	defer cancel()
	stored := false
	defer func() { // also if Accept panics
		if !stored {
			rq.discard(ctx, rec)
		}
	}()
	if res.Former, err = web.stored(ctx, user, a.Label); err == nil {
		err = web.accept(r, res)
	}
	if err == nil {
		err = web.store(ctx, user, a.Label, rec)
	}
	if err != nil {
		return outcomeOf(err)
	}
	stored = true
	t := EventConnected
	if res.Former != nil {
		t = EventReconnected
	}
	web.emit(r.Context(), t, user, a.Label, nil)
	out := new(outcome)
	if res.Return != a.Return {
		out.Return = web.localOr(res.Return)
	}
	return out
}

// accept asks the application.
func (web *Web) accept(r *http.Request, res *Result) error {
	if web.cfg.Accept != nil {
		err := web.cfg.Accept(r, res)
		if _, is := errors.AsType[Refusal](err); err == nil || is {
			return err
		}
		return &transport.Error{Kind: transport.ErrLoginRequired, Op: "login", Err: errors.Join(RefusedByApp, err)}
	}
	if res.Former == nil {
		return nil
	}
	was, is := AccountOf(res.Former).Subject, AccountOf(res.Record).Subject
	if was != "" && is != "" && was != is {
		return refused(RefusedOtherAccount, "disconnect the other account first")
	}
	return nil
}

// store stores the login, and does not give up at once: it cannot be had again.
func (web *Web) store(ctx context.Context, user, label string, rec *tokencache.Record) error {
	source := web.cfg.Pool.Source(PoolAccount(user, label))
	for try := 1; ; try++ {
		err := source.Login(ctx, rec)
		if err == nil || !errors.Is(err, transport.ErrStorage) || try == storeTries || !sleep.For(ctx, time.Second) {
			return err
		}
	}
}

// What of a callback is kept with the login, at most. It has come through the browser.
const (
	maxParams = 16
	maxParam  = 1 << 10
)

// others returns the parameters of an answer that mean nothing here: which company, shop or
// team the user has chosen, for instance.
func others(query url.Values) url.Values {
	rest := url.Values{}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch name {
		case "code", "state", "iss", "error", "error_description", "error_uri", "session_state":
			continue
		}
		if value := query.Get(name); len(rest) < maxParams && len(name)+len(value) <= maxParam {
			rest.Set(name, value)
		}
	}
	return rest
}

// keep puts the parameters of the callback into the record, apart from what the token
// endpoint has said, which no user can make up.
func keep(rec *tokencache.Record, params url.Values) {
	if len(params) > 0 && rec.Extra == nil {
		rec.Extra = make(map[string]tokencache.Secret)
	}
	for name := range params {
		rec.Extra["callback."+name] = tokencache.Secret(params.Get(name))
	}
}
