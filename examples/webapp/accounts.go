package main

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
)

// An account is one that a user has connected, as the page of them shows it.
type account struct {
	Label  string // which of the user's
	Name   string // whose it is at the provider
	Scopes []string

	Since, Renewed time.Time
	State          string
	Broken         bool   // the user has to connect it again
	Problem        string // what else the user should know
	More           bool   // there are scopes that the user has not allowed
}

// showAccounts shows which accounts the user has connected, and how they are.
func (a *app) showAccounts(w http.ResponseWriter, r *http.Request, u user) {
	p := page{Title: "Connected accounts", User: &u, MoreScopes: a.moreScopes}
	found, err := a.web.Logins(r.Context(), u.id)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		p.Problem = "Some accounts cannot be shown at the moment. They are still connected."
	}
	for _, one := range found {
		owner, label := one.Key.Label()
		if one.Name == owner { // The provider has not said whose account it is.
			one.Name = ""
		}
		status, err := a.pool.Source(one.Key.Account).Status(r.Context())
		if err != nil {
			p.Problem = "Some accounts cannot be shown at the moment. They are still connected."
			continue
		}
		p.Accounts = append(p.Accounts, a.describe(label, one.Name, status))
	}
	render(w, http.StatusOK, "accounts", p)
}

func (a *app) describe(label, name string, status transport.Status) account {
	scopes := strings.Fields(status.Scope)
	shown := account{Label: label, Name: name, Scopes: scopes, Since: status.AuthorizedAt, Renewed: status.ObtainedAt, State: "connected"}
	for _, scope := range strings.Fields(a.moreScopes) {
		shown.More = shown.More || !slices.Contains(scopes, scope)
	}
	switch status.State {
	case transport.StateDead, transport.StateEmpty:
		shown.State, shown.Broken, shown.More = "not connected any more", true, false
		shown.Problem = "The provider has ended it. Connect the account again to go on."
	case transport.StateOutage:
		shown.Problem = "The provider cannot be asked to renew it at the moment. It is tried again by itself."
	}
	return shown
}

// more sends the user to the provider to allow more than before. Whoever does not agree
// there keeps the login as it is.
func (a *app) more(w http.ResponseWriter, r *http.Request, u user) {
	err := a.web.Begin(w, r, login.Start{Label: r.PostFormValue("label"), Return: "/accounts", Scopes: strings.Fields(a.moreScopes)})
	if err != nil {
		a.problem(w, u, err)
	}
}
