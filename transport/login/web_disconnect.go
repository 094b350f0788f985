package login

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// opDisconnect is the Op of errors of Disconnect.
const opDisconnect = "disconnect"

// disconnectTime bounds a disconnection, whether or not the browser waits.
const disconnectTime = time.Minute

// Disconnect ends the login of the user who is signed in: it revokes the tokens, removes them
// as [transport.Source.Logout] does, and redirects the browser to the path in the parameter
// "return". The parameter "label" says which login. Disconnect accepts a POST from a page of
// this site; disconnecting twice is no error.
//
// If the provider cannot be reached, the user stays connected and is told so. If the provider
// has no way to revoke tokens, they are removed here, and a page says that the user can remove
// the application at the provider: the error of that Failure wraps errors.ErrUnsupported.
func (web *Web) Disconnect(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "only POST", http.StatusMethodNotAllowed)
		return
	}
	if !readForm(w, r) {
		return
	}
	err := web.fromHere(r)
	if err == nil && speculative(r) {
		err = refused(RefusedBackground, "open the page itself")
	}
	user, label, back := "", r.FormValue("label"), web.localOr(r.FormValue("return"))
	if err == nil {
		user, err = web.user(r)
	}
	if err != nil {
		web.fail(w, r, user, label, failureOf(err, back))
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), disconnectTime)
	defer cancel()
	err = web.disconnect(ctx, user, label)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		f := failureOf(err, back)
		f.Status = http.StatusOK
		web.show(w, r, f)
	case err != nil:
		web.fail(w, r, user, label, failureOf(err, back))
	default:
		redirect(w, back)
	}
}

// disconnect ends a login. An error that wraps errors.ErrUnsupported means that it is ended
// here only.
func (web *Web) disconnect(ctx context.Context, user, label string) error {
	if err := web.cfg.Pool.Source(PoolAccount(user, label)).Logout(ctx); err != nil {
		e := &transport.Error{Kind: transport.ErrUnavailable, Op: opDisconnect, Err: err, Remedy: "the account is still connected; disconnect it again later"}
		if own, ok := errors.AsType[*transport.Error](err); ok {
			e.Kind, e.Status = own.Kind, own.Status
		}
		return e
	}
	var alive error
	if e := web.cfg.Endpoint; e.RevocationURL == "" && e.LogoutURL == "" {
		alive = &transport.Error{Kind: transport.ErrMisconfigured, Op: opDisconnect, Err: errors.ErrUnsupported,
			Remedy: "the tokens live until they expire, or until the user removes the application at the provider"}
	}
	web.emit(ctx, EventDisconnected, user, label, alive)
	return alive
}
