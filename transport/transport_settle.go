package transport

import (
	"io"
	"net/http"
	"time"
)

// A program must not end in the middle of a rotation, and the last thing that it does with a
// response is to close its body. So it is Close that waits for a background refresh, not the
// response: by then the program has read what it wanted.
//
// A request that found a fresh token has nothing to wait for. A flight is started only when the
// token is not fresh, and a token that is fresh again has been saved. If the token ceased to be
// fresh later, the flight is that of another call.

// settlesAfter makes the end of a request, which is the Close of its response's body or its
// error, wait for the refresh in flight.
func (t *Transport) settlesAfter(src *Source, resp *http.Response, err error) {
	switch {
	case err != nil:
		t.awaitFlight(src)
	case resp == nil, resp.Body == nil, t.settle < 0, t.logins.keptFresh(), isRedirect(resp):
	default:
		resp.Body = t.settling(src, resp.Body)
	}
}

// awaitFlight waits until the refresh in flight, whoever started it, has settled. The wait does
// not end with the request's context, which http.Client cancels when the body is closed, but is
// bounded by the age of the flight: one that has taken longer than Settle delays nobody. Only
// one caller waits for a flight, so that a service does not stand still.
func (t *Transport) awaitFlight(src *Source) {
	if t.logins.keptFresh() {
		return // A service that keeps the token fresh does not exit meanwhile.
	}
	f := src.inFlight()
	if f == nil {
		return
	}
	left := t.settle - time.Since(f.begun)
	if left <= 0 || !f.awaited.CompareAndSwap(false, true) {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	}
}

// inFlight returns the flight in progress, or nil.
func (s *Source) inFlight() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flight
}

// isRedirect reports whether http.Client follows resp. It closes the body first, and must not
// be delayed by that; the last of its requests waits instead.
func isRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return resp.Header.Get("Location") != ""
	}
	return false
}

// A settlingBody waits for a refresh when it is closed.
type settlingBody struct {
	io.ReadCloser
	t   *Transport
	src *Source
}

func (b *settlingBody) Close() error {
	err := b.ReadCloser.Close()
	b.t.awaitFlight(b.src)
	return err
}

// A settlingConn is the body of a 101, a connection in both directions (net/http.Response).
type settlingConn struct {
	settlingBody
	io.Writer
}

// CloseWrite is for httputil.ReverseProxy.
func (c *settlingConn) CloseWrite() error {
	if w, ok := c.Writer.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return http.ErrNotSupported
}

func (t *Transport) settling(src *Source, body io.ReadCloser) io.ReadCloser {
	b := settlingBody{body, t, src}
	if w, ok := body.(io.Writer); ok {
		return &settlingConn{b, w}
	}
	return &b
}
