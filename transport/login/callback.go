package login

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A callback serves the redirect URI. It accepts one answer; any other that arrives while that
// one is handled gets a page that says so.
//
// An answer without the right state may come from any page in the browser that guesses the
// port. It is refused and does not end the attempt: otherwise any such page could keep the user
// from logging in. Nobody guesses the state.
//
// No page is served at the redirect URI itself, because its URL has the code in it. The browser
// is redirected to a page with an address of its own, so that the code is neither in the
// address bar nor in the history.
type callback struct {
	*request
	host, path string
	answer     chan answer   // receives the first answer
	finished   chan struct{} // closed when outcome is known

	mu       sync.Mutex
	answered bool
	warned   bool
	outcome  page
	pages    map[string]page // by path; each is served once
	owed     int             // answers whose page the browser has not fetched yet
	idle     chan struct{}   // closed when owed is 0 again; nil until the outcome is known
}

// An answer is what the provider has sent through the browser.
type answer struct {
	code string
	err  error
}

// lastPage bounds how long the listener stays open for the browser to fetch the page that it
// was redirected to. On one machine that takes milliseconds.
const lastPage = 3 * time.Second

func newCallback(r *request) *callback {
	u, err := url.Parse(r.redirectURI)
	if err != nil {
		panic(err) // listenAt made it.
	}
	return &callback{
		request: r, host: u.Host, path: cmp.Or(u.EscapedPath(), "/"),
		answer: make(chan answer, 1), finished: make(chan struct{}),
		pages: map[string]page{},
	}
}

// serve serves the listeners until stop is called, which returns when everything has ended.
func (cb *callback) serve(listeners []net.Listener) (stop func()) {
	srv := &http.Server{
		Handler:           cb,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // It would quote what clients send.
	}
	srv.SetKeepAlivesEnabled(false)
	var running sync.WaitGroup
	for _, l := range listeners {
		running.Go(func() { srv.Serve(l) }) // It returns when stop closes l.
	}
	return func() {
		srv.Close()
		running.Wait()
	}
}

// ServeHTTP is called by the user's browser, or by anything else that finds the port.
func (cb *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	switch {
	case !strings.EqualFold(r.Host, cb.host): // The name was made to lead here (DNS rebinding).
		http.Error(w, "unknown host", http.StatusMisdirectedRequest)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case r.URL.EscapedPath() == cb.path:
		cb.receive(w, r)
	default:
		cb.show(w, r)
	}
}

// receive handles an answer. If that is the first one that belongs to the request, it waits for
// the outcome.
func (cb *callback) receive(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	var a answer
	if err == nil {
		a.code, a.err = cb.code(query)
	}
	if err != nil || errors.Is(a.err, errForeign) {
		cb.warn()
		foreignPage().write(w)
		return
	}
	cb.mu.Lock()
	first := !cb.answered
	cb.answered = true
	cb.owed++
	cb.mu.Unlock()
	p := usedPage()
	if first {
		cb.answer <- a
		select {
		case <-cb.finished:
			p = cb.outcome
		case <-r.Context().Done(): // The user has closed the page.
			cb.paid()
			return
		}
	}
	path := "/" + rand.Text()
	cb.mu.Lock()
	cb.pages[path] = p
	cb.mu.Unlock()
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusSeeOther)
}

// show serves a page that the browser was redirected to.
func (cb *callback) show(w http.ResponseWriter, r *http.Request) {
	cb.mu.Lock()
	p, ok := cb.pages[r.URL.Path]
	delete(cb.pages, r.URL.Path)
	cb.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	p.write(w)
	http.NewResponseController(w).Flush() // The page must be on its way before the listener closes.
	cb.paid()
}

// warn warns the user, once, that something on this machine or some page in the browser is not
// what it should be.
func (cb *callback) warn() {
	cb.mu.Lock()
	first := !cb.warned
	cb.warned = true
	cb.mu.Unlock()
	if first {
		cb.say("An answer that does not belong to this login was refused. Still waiting.\n")
	}
}

// finish reports the outcome to the browser, and waits until it has fetched its pages.
func (cb *callback) finish(ctx context.Context, err error) {
	idle := make(chan struct{})
	cb.mu.Lock()
	cb.idle = idle
	cb.outcome = successPage(cb.name)
	if err != nil {
		cb.outcome = failurePage(cb.name, err)
	}
	if cb.owed == 0 {
		close(idle)
	}
	cb.mu.Unlock()
	close(cb.finished)
	select {
	case <-idle:
	case <-time.After(lastPage):
	case <-ctx.Done():
	}
}

// paid records that the browser has fetched a page.
func (cb *callback) paid() {
	cb.mu.Lock()
	defer cb.mu.Unlock()
	cb.owed--
	if cb.owed == 0 && cb.idle != nil {
		close(cb.idle)
	}
}
