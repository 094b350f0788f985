package main

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"time"
)

//go:embed pages/*.html pages/style.css
var files embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{"clock": clock, "machine": machine}).ParseFS(files, "pages/*.html"))

// A page is what the templates show. Each of them uses what it needs.
type page struct {
	Title   string
	User    *user  // who is signed in
	Problem string // what went wrong

	Accounts   []account
	MoreScopes string

	Label, API, Answer string
	Again              bool // it helps to go to the provider

	Events []event
}

func (u user) Name() string { return u.name }
func (u user) Admin() bool  { return u.admin }

// clock is a time for people, and machine the same for programs.
func clock(t time.Time) string   { return t.Local().Format("2 Jan 15:04:05") }
func machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func render(w http.ResponseWriter, status int, name string, p page) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name+".html", p); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

func problem(w http.ResponseWriter, u *user, status int, text string) {
	render(w, status, "problem", page{Title: "That did not work", User: u, Problem: text})
}

func style(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=3600")
	http.ServeFileFS(w, r, files, "pages/style.css")
}

// secure sets what all pages have in common: nothing is run, framed or loaded from
// elsewhere, and what is for one user is not kept.
func (a *app) secure(h http.Handler) http.Handler {
	// Some browsers apply form-action to where the answer to a form leads, too: for the
	// buttons that lead to the provider.
	policy := "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " + a.logins.pages
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "same-origin")
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}
