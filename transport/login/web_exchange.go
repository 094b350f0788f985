package login

import (
	"context"
	"errors"
	"fmt"
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

// The work for an answer is bounded, and goes on when the browser goes away.
const (
	exchangeTime = 2 * time.Minute
	storeTime    = 2*time.Minute + 10*time.Second // Source.Login waits for two minutes for a refresh that is at work
	storeTries   = 3                              // a second apart
)

// bounded returns a context that lives as long as the work takes.
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), d)
}

// complete exchanges the code, once however often it arrives, and stores the login. An error
// means that the code was not used.
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
	out, err := web.obtain(r, rq, id, a, user, code, params)
	if err != nil {
		web.emit(ctx, EventRefused, user, a.Label, err)
		out = outcomeOf(err)
	}
	// If this fails, an answer that arrives again finds the login itself, or is refused.
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
	// The process that sent the code has died: nobody else has the lock.
	rec, err := web.stored(ctx, user, label)
	if err != nil {
		return nil, err
	}
	if rec != nil && rec.LoginID == id {
		return new(outcome), nil
	}
	err = refused(RefusedInterrupted, "start again")
	web.emit(ctx, EventRefused, user, label, err)
	return outcomeOf(err), nil
}

// obtain exchanges the code and stores the login.
func (web *Web) obtain(r *http.Request, rq *request, id string, a *attempt, user, code string, params url.Values) (*outcome, error) {
	ctx, cancel := bounded(r.Context(), exchangeTime)
	defer cancel()
	rec, err := rq.exchange(ctx, code)
	if err != nil {
		return nil, err
	}
	rec.Key, rec.LoginID = tokencache.Key{Issuer: web.key.Issuer, ClientID: web.key.ClientID}, id
	addParams(rec, params)
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
		return nil, err
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
	return out, nil
}

// accept asks the application.
func (web *Web) accept(r *http.Request, res *Result) error {
	if web.cfg.Accept != nil {
		err := web.cfg.Accept(r, res)
		if err == nil {
			return nil
		}
		e := &transport.Error{Kind: transport.ErrLoginRequired, Op: "login", Err: err}
		if own, ok := errors.AsType[*transport.Error](err); ok {
			e.Code, e.Description = own.Code, own.Description
		}
		if why, ok := errors.AsType[Refusal](err); !ok || !why.known() {
			e.Err = fmt.Errorf("%w: %w", RefusedByApp, err)
		}
		return e
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

// store stores the login, and does not give up at once: the code cannot be used again.
func (web *Web) store(ctx context.Context, user, label string, rec *tokencache.Record) error {
	source := web.cfg.Pool.Source(PoolAccount(user, label))
	for try := 1; ; try++ {
		err := source.Login(ctx, rec)
		if err == nil || !errors.Is(err, transport.ErrStorage) || try == storeTries || !sleep.For(ctx, time.Second) {
			return err
		}
	}
}

// The parameters of a callback that are kept with the login are bounded: they come from a
// browser.
const (
	maxParams = 16
	maxParam  = 1 << 10
)

// others returns the parameters of an answer that have no meaning in the flow itself, such as
// which company, shop or team the user has chosen.
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

// keep adds the parameters of the callback to the record, apart from the members of the token
// endpoint's answer, which no user can make up.
func addParams(rec *tokencache.Record, params url.Values) {
	if len(params) > 0 && rec.Extra == nil {
		rec.Extra = make(map[string]tokencache.Secret)
	}
	for name := range params {
		rec.Extra["callback."+name] = tokencache.Secret(params.Get(name))
	}
}
