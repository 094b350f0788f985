package main

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// An eventLog has the last events of all users' logins. An application that runs on several
// machines has them in its log, or as metrics: see package otelstayauth.
type eventLog struct {
	mu   sync.Mutex
	last []event
}

// An event is one as the page of them shows it. There is no secret in it.
type event struct {
	At         time.Time
	Type       string
	Who, Label string
	Text       string // why
	Bad        bool
}

const maxEvents = 200

// add is what the engine and the web handlers call.
func (l *eventLog) add(_ context.Context, e transport.Event) {
	owner, label := e.Key.Label()
	shown := event{At: e.At, Type: string(e.Type), Who: owner, Label: label}
	if u, ok := userByID(owner); ok {
		shown.Who = u.name
	}
	if e.Err != nil {
		shown.Text, shown.Bad = e.Err.Error(), true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = append(l.last, shown)
	l.last = l.last[max(0, len(l.last)-maxEvents):]
}

// newest returns the events, the last one first.
func (l *eventLog) newest() []event {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.last)
	slices.Reverse(all)
	return all
}

// showEvents is for administrators.
func (a *app) showEvents(w http.ResponseWriter, r *http.Request, u user) {
	if !u.admin {
		problem(w, &u, http.StatusForbidden, "Only administrators may see this page.")
		return
	}
	render(w, http.StatusOK, "events", page{Title: "Events", User: &u, Events: a.events.newest()})
}
