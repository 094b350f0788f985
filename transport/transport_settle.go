package transport

import (
	"io"
	"net/http"
	"time"
)

// A program must not end in the middle of a rotation, and the last thing that it does
// with a response is to close its body. So that is what waits for a refresh in the
// background, and not the response: whoever reads it has no further use for the time.
//
// A request that found a fresh token has nothing to wait for. A flight is started only
// when the token is not fresh, and the token that makes it fresh again has been saved. If
// the token ceased to be fresh later, the flight is that of another call.

// settlesAfter makes the end of a request wait for the refresh that is in flight: the
// Close of its response's body, or the error itself.
func (t *Transport) settlesAfter(src *Source, resp *http.Response, err error) {
	switch {
	case err != nil:
		t.awaitFlight(src)
	case resp == nil, resp.Body == nil, t.settle < 0, t.logins.keptFresh(), isRedirect(resp):
	default:
		resp.Body = t.settling(src, resp.Body)
	}
}

// awaitFlight waits until the refresh that is in flight has settled, whoever started it.
// The wait does not end with the request's context, which http.Client ends when the
// body is closed, but is bounded by the age of the flight: one that has taken longer
// than Settle delays nobody any more. One caller waits for a flight, so that a service
// does not stand still.
func (t *Transport) awaitFlight(src *Source) {
	if t.logins.keptFresh() {
		return // In a service that keeps the token fresh nothing exits meanwhile.
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

// isRedirect reports whether http.Client follows resp. It closes the body before it
// does, and must not be delayed by that; the last of its requests waits in its place.
func isRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return resp.Header.Get("Location") != ""
	}
	return false
}

// A settlingBody waits at its end for a refresh.
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

// CloseWrite is what httputil.ReverseProxy asks for.
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
