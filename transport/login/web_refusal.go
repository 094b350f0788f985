package login

import (
	"cmp"
	"errors"
	"net/http"
	"strings"

	"github.com/stayauth/stayauth/transport"
)

// A Refusal is the reason why a request to a Web has no effect, or why a login does not replace
// Config.Former. It is an error itself, to be used with errors.Is:
// errors.Is(failure.Err, login.RefusedOtherUser).
type Refusal string

// The refusals. The first group ends no attempt: the genuine answer may still arrive.
const (
	RefusedCrossSite   Refusal = "cross-site"   // another site has sent the browser here, or the browser does not say that none has
	RefusedBackground  Refusal = "background"   // a script or a prefetch, and not the user, has sent the request
	RefusedNoUser      Refusal = "no-user"      // nobody is signed in to the application
	RefusedUnknownUser Refusal = "unknown-user" // the application cannot tell who is signed in
	RefusedOtherUser   Refusal = "other-user"   // another user than the one who began the login is signed in
	RefusedNotStarted  Refusal = "not-started"  // the answer belongs to no login that this browser has begun
	RefusedLate        Refusal = "late"         // the user took longer than Timeout
	RefusedAnswer      Refusal = "answer"       // the answer is malformed, or comes from another issuer
	RefusedRepeated    Refusal = "repeated"     // an API demands what the login just made was to bring

	RefusedInterrupted  Refusal = "interrupted"   // a server ended while it exchanged the code, which cannot be used again
	RefusedOtherAccount Refusal = "other-account" // the login is that of another user of the provider than before
	RefusedByApp        Refusal = "by-app"        // WebConfig.Accept has refused it
)

func (r Refusal) Error() string { return string(r) }

// A refusalText tells a user about a refusal, with a status.
type refusalText struct {
	status      int
	title, text string
}

// page returns the text for r, or that of RefusedNotStarted if r is none of the refusals.
func (r Refusal) page() (t refusalText, known bool) {
	switch r {
	case RefusedCrossSite:
		return refusalText{http.StatusForbidden, "This was not started here", "Perhaps another site has sent you. Nothing was done. To connect your account, start on a page of this site."}, true
	case RefusedBackground:
		return refusalText{http.StatusUnauthorized, "This page has to be opened", "It cannot be loaded in the background."}, true
	case RefusedNoUser:
		return refusalText{http.StatusUnauthorized, "You are not signed in", "Sign in first, and then start again."}, true
	case RefusedUnknownUser:
		return refusalText{http.StatusServiceUnavailable, "Not now", "This site cannot tell who you are now. Try again in a while."}, true
	case RefusedOtherUser:
		return refusalText{http.StatusForbidden, "Somebody else is signed in now", "Another user had started to connect an account, so it was not connected. If it was you, start again."}, true
	case RefusedLate:
		return refusalText{http.StatusBadRequest, "That took too long", "For your safety, an attempt ends after a while. Nothing was changed. Start again."}, true
	case RefusedAnswer:
		return refusalText{http.StatusBadRequest, "The answer was not used", "It does not fit what was asked. Nothing was changed. Start again."}, true
	case RefusedInterrupted:
		return refusalText{http.StatusServiceUnavailable, "That was interrupted", "Something happened on this site in the middle of it. Start again."}, true
	case RefusedOtherAccount:
		return refusalText{http.StatusConflict, "That is another account", "You have connected a different account before, and it is still connected. To use the new one, disconnect the old one first."}, true
	case RefusedRepeated:
		return refusalText{http.StatusForbidden, "That did not help", "You have just been asked for this. The other side still does not accept it."}, true
	case RefusedByApp:
		return refusalText{http.StatusForbidden, "The account was not connected", "This site does not accept it."}, true
	}
	return refusalText{http.StatusBadRequest, "This was not started here", "It comes from another browser or an older attempt, or somebody made it up. Nothing was changed. Start again."}, r == RefusedNotStarted
}

// known reports whether r is one of the refusals.
func (r Refusal) known() bool {
	_, known := r.page()
	return known
}

func refused(why Refusal, remedy string) *transport.Error {
	return &transport.Error{Kind: transport.ErrLoginRequired, Op: "login", Err: why, Remedy: remedy}
}

// failureOf returns what to tell the user about err.
func failureOf(err error, back string) Failure {
	f := Failure{Err: err, Status: http.StatusBadRequest, Return: back}
	refusal, isRefusal := errors.AsType[Refusal](err)
	e, isError := errors.AsType[*transport.Error](err)
	switch {
	case isRefusal:
		t, _ := refusal.page()
		f.Status = t.status
	case errors.Is(err, errCookieTooLong): // What is so long has come with the request.
	case !isError:
		f.Status = http.StatusInternalServerError
	case e.Kind == transport.ErrMisconfigured && e.Code == "":
		f.Status = http.StatusInternalServerError
	case e.Kind == transport.ErrStorage, e.Kind == transport.ErrUnavailable, e.Kind == transport.ErrAmbiguous:
		f.Status = http.StatusServiceUnavailable
	}
	return f
}

// page returns the page that tells the user about f, if the application has none.
func (f Failure) page(provider string) page {
	p := page{f.Status, "!", "Your account was not connected", "That did not succeed. Nothing was changed. You can start again.", "", f.Return, "Start again"}
	if refusal, ok := errors.AsType[Refusal](f.Err); ok {
		t, _ := refusal.page()
		p.Title, p.Text = t.title, t.text
		return p
	}
	e, ok := errors.AsType[*transport.Error](f.Err)
	switch {
	case !ok:
	case e.Op == opDisconnect && errors.Is(e, errors.ErrUnsupported):
		p.Mark, p.Title, p.Link = "✓", "Your account is disconnected here", "Go on"
		p.Text = provider + " cannot be told from here. To take back what you allowed, remove this site in the settings of your account there."
	case e.Op == opDisconnect:
		p.Title, p.Link = "Your account is still connected", "Go back"
		p.Text = provider + " could not be told to end it. Try again in a while."
	case e.Code == "access_denied":
		p.Text = "You did not allow this site to use your account with " + provider + ". If that was a mistake, start again."
	case e.Kind == transport.ErrUnavailable, e.Kind == transport.ErrAmbiguous:
		p.Text = provider + " cannot be reached now. Try again in a while."
	case e.Kind == transport.ErrStorage:
		p.Text = "This site cannot store it now. Try again in a while."
	case errors.Is(e, errCookieTooLong):
		p.Text = "The link that you followed asks for more than can be remembered meanwhile. Nothing was changed. Start again from another page."
	case e.Kind == transport.ErrMisconfigured:
		p.Text = "This site and " + provider + " do not understand each other. Whoever runs this site has to see to that."
	}
	if ok && e.Status == 0 && e.Op != opDisconnect { // what has come through the browser
		p.Details = strings.Trim(cmp.Or(e.Code, "")+": "+e.Description, ": ")
	}
	return p
}

// fail tells the user, the log and OnEvent.
func (web *Web) fail(w http.ResponseWriter, r *http.Request, user, label string, f Failure) {
	web.emit(r.Context(), EventRefused, user, label, f.Err)
	web.show(w, r, f)
}

// show tells the user only.
func (web *Web) show(w http.ResponseWriter, r *http.Request, f Failure) {
	secure(w.Header())
	if web.cfg.Failed != nil {
		web.cfg.Failed(w, r, f)
		return
	}
	f.page(web.name()).write(w)
}
