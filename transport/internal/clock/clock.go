// Package clock finds out whether the clock of this machine agrees with that of a server.
package clock

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport/internal/httphooks"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// Tolerance is how much the clocks may differ. It is a minute less than what is allowed when an
// ID token comes (see package login), so that a login that may begin can also end: clocks
// drift, and a Date has only seconds.
const Tolerance = 4 * time.Minute

const (
	questionTimeout = 2 * time.Second
	questionPause   = 1500 * time.Millisecond // for a clock that is told in seconds to go on
	questionsTime   = 10 * time.Second        // more than two of them and the pause take

	// For how long an answer is remembered: not long if the clock is wrong, because
	// somebody may be setting it, nor if the server could not be reached.
	rememberGood    = time.Hour
	rememberSilence = time.Minute
	rememberWrong   = 10 * time.Second
)

// A Watch compares the clock of this machine with that of a server, and remembers the result.
// The zero value is ready to use, by several goroutines.
type Watch struct {
	mu     sync.Mutex
	asking chan struct{} // closed when the answer is there; nil: nobody is asking
	ahead  time.Duration
	until  time.Time // when to ask again
}

// Ahead returns how far the clock of this machine is ahead of that of the server at url or, if
// the duration is negative, behind it. It returns 0 if they differ by no more than Tolerance,
// and if the server does not tell: that is no reason to refuse anything.
//
// It looks at the Date (RFC 9110 section 6.6.1) of the answer to a HEAD, which sends nothing
// secret and changes nothing. A clock that seems to be wrong is believed only once it was seen
// to go: a Date that stands still comes from a careless cache, and one that jumps is that of
// two machines.
func (w *Watch) Ahead(ctx context.Context, base http.RoundTripper, url string) (ahead time.Duration) {
	for {
		w.mu.Lock()
		asking := w.asking
		if asking == nil {
			break
		}
		w.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return 0
		}
	}
	if time.Now().Before(w.until) {
		defer w.mu.Unlock()
		return w.ahead
	}
	asking := make(chan struct{})
	w.asking = asking
	w.mu.Unlock()
	remember := rememberSilence
	defer func() { // also if foreign code panics
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.asking = nil; ctx.Err() == nil { // Otherwise it says nothing about the server.
			w.ahead, w.until = ahead, time.Now().Add(remember)
		}
		close(asking)
	}()
	first, err := ask(ctx, base, url)
	if err != nil {
		return 0
	}
	remember = rememberGood
	if first.ahead.Abs() <= Tolerance || !sleep.For(ctx, questionPause) {
		return 0
	}
	second, err := ask(ctx, base, url)
	if err != nil {
		remember = rememberSilence
		return 0
	}
	if went := second.date.Sub(first.date); went <= 0 || went > questionsTime || second.ahead.Abs() <= Tolerance {
		return 0
	}
	remember = rememberWrong
	return second.ahead
}

// A reading is one look at the server's clock.
type reading struct {
	date  time.Time // zero: the answer does not tell
	ahead time.Duration
}

// ask makes one request. An error means that there was no answer.
func ask(ctx context.Context, base http.RoundTripper, url string) (reading, error) {
	ctx, cancel := context.WithTimeout(httphooks.Without(ctx), questionTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, http.NoBody)
	if err != nil {
		return reading{}, err
	}
	req.Header.Set("Cache-Control", "no-cache")
	req.Close = true // A second question may reach another machine.
	sent := time.Now().Round(0)
	resp, err := base.RoundTrip(req)
	got := time.Now().Round(0)
	if err != nil {
		return reading{}, err
	}
	resp.Body.Close()
	return read(resp.Header, sent, got), nil
}

// Ahead returns how far the clock of this machine was ahead of the one that an answer tells, or
// behind it. The request was sent and the answer was there at the given times.
func Ahead(h http.Header, sent, got time.Time) (ahead time.Duration, told bool) {
	r := read(h, sent, got)
	return r.ahead, !r.date.IsZero()
}

// read returns what the header of an answer tells.
func read(h http.Header, sent, got time.Time) reading {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return reading{}
	}
	if age := h.Get("Age"); age != "" { // RFC 9111 section 5.1: it comes from a cache.
		seconds, err := strconv.ParseUint(strings.TrimSpace(age), 10, 31)
		if err != nil {
			return reading{}
		}
		date = date.Add(time.Duration(seconds) * time.Second)
	}
	if date.IsZero() { // It is read as if there were none.
		return reading{}
	}
	// What is certain, however long the answer took. A Date is cut off to seconds.
	r := reading{date: date}
	if d := sent.Sub(date.Add(time.Second)); d > 0 {
		r.ahead = d
	} else if d := got.Sub(date); d < 0 {
		r.ahead = d
	}
	return r
}
