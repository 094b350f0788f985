package main

import (
	"context"
	"log"
	"net/http"
	"sync"

	"github.com/alexedwards/scs/v2"
)

// An app is one replica of the application.
type app struct {
	*logins
	sessions   *scs.SessionManager
	events     *eventLog
	moreScopes string
	api        string

	stop    context.CancelFunc
	keeping sync.WaitGroup
}

func newApp(ctx context.Context, o options, sessions scs.Store, events *eventLog) (*app, error) {
	a := &app{sessions: newSessions(sessions, o.url), events: events, moreScopes: o.moreScopes, api: o.api}
	var err error
	if a.logins, err = openLogins(ctx, o, a.userID, events.add); err != nil {
		return nil, err
	}
	// Users stay connected who are away for months, and what a replica that has died had
	// under way is made up for.
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	a.keeping.Go(func() {
		if err := a.pool.KeepFresh(keeping); err != nil && keeping.Err() == nil {
			log.Print(err)
		}
	})
	return a, nil
}

// close is called when no requests come any more.
func (a *app) close(ctx context.Context) error {
	a.stop()
	a.keeping.Wait()
	return a.logins.close(ctx)
}

// handler has all routes of the application.
func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /style.css", style)
	mux.Handle("GET /{$}", http.RedirectHandler("/accounts", http.StatusSeeOther))
	mux.HandleFunc("GET /sign-in", a.showSignIn)
	mux.HandleFunc("POST /sign-in", a.signIn)
	mux.HandleFunc("POST /sign-out", a.signOut)

	mux.HandleFunc("POST /connect", a.web.Connect)
	mux.HandleFunc("/callback", a.web.Callback)
	mux.HandleFunc("POST /disconnect", a.web.Disconnect)

	mux.HandleFunc("GET /accounts", a.signedIn(a.showAccounts))
	mux.HandleFunc("POST /more", a.signedIn(a.more))
	mux.HandleFunc("GET /call", a.signedIn(a.showCall))
	mux.HandleFunc("POST /call", a.signedIn(a.callAgain))
	mux.HandleFunc("GET /events", a.signedIn(a.showEvents))

	// No other site can press the buttons of this one.
	protected := http.NewCrossOriginProtection().Handler(mux)
	return a.secure(a.sessions.LoadAndSave(protected))
}

// userKey is where the session has the id of the user who is signed in.
const userKey = "user"

// userID says who has sent a request; "" is nobody.
func (a *app) userID(r *http.Request) (string, error) {
	return a.sessions.GetString(r.Context(), userKey), nil
}

// signedIn passes requests of users on, and sends everybody else to sign in.
func (a *app) signedIn(h func(http.ResponseWriter, *http.Request, user)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u, ok := userByID(a.sessions.GetString(r.Context(), userKey))
		if !ok {
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			return
		}
		h(w, r, u)
	}
}

func (a *app) showSignIn(w http.ResponseWriter, r *http.Request) {
	render(w, http.StatusOK, "sign-in", page{Title: "Sign in"})
}

func (a *app) signIn(w http.ResponseWriter, r *http.Request) {
	u, ok := signIn(r.PostFormValue("name"), r.PostFormValue("password"))
	if !ok {
		render(w, http.StatusUnauthorized, "sign-in", page{Title: "Sign in", Problem: "There is no user with this name and password."})
		return
	}
	// A session that somebody else may know must not become that of the user.
	if err := a.sessions.RenewToken(r.Context()); err != nil {
		problem(w, nil, http.StatusInternalServerError, "You cannot be signed in at the moment.")
		return
	}
	a.sessions.Put(r.Context(), userKey, u.id)
	http.Redirect(w, r, "/accounts", http.StatusSeeOther)
}

func (a *app) signOut(w http.ResponseWriter, r *http.Request) {
	if err := a.sessions.Destroy(r.Context()); err != nil {
		problem(w, nil, http.StatusInternalServerError, "You cannot be signed out at the moment.")
		return
	}
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}
