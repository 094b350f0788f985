package oauthtest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

// RoundTripper returns a transport that reaches the server in memory. It is a real
// http.Transport with a pool of connections of its own, and talks to a real http.Server over
// pipes, so that what a client sees of keep-alive, cut connections and truncated bodies is
// real. Only TLS is left out, even for https.
//
// Every host name leads to the server. Requests to an origin other than its own
// (URL, APIOrigin, Config.Resources) are answered 200 and kept for Strays.
//
// It works in a testing/synctest bubble if the Server is created and closed
// there.
func (s *Server) RoundTripper() *http.Transport {
	s.mu.Lock()
	if s.memory == nil {
		s.memory = &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
		s.run(s.memory, http.HandlerFunc(s.serveMemory))
	}
	l := s.memory
	s.mu.Unlock()
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return s.dial(ctx, l, "http", addr)
		},
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return s.dial(ctx, l, "https", addr)
		},
		MaxIdleConnsPerHost: 100,
	}
}

// A pipeConn knows the scheme that the client believes it is using.
type pipeConn struct {
	net.Conn
	scheme string
}

func (s *Server) dial(ctx context.Context, l *pipeListener, scheme, addr string) (net.Conn, error) {
	if s.refuses() {
		return nil, refused(addr)
	}
	client, server := net.Pipe()
	select {
	case l.conns <- &pipeConn{server, scheme}:
		return client, nil
	case <-l.done:
		return nil, refused(addr)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// refuses reports whether the server is down, and counts the connection that is refused for
// that.
func (s *Server) refuses() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		s.counts.Refused++
	}
	return s.down
}

// refused is the operating system's error when nobody listens.
func refused(addr string) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: pipeAddr(addr), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

type pipeAddr string

func (pipeAddr) Network() string  { return "tcp" }
func (a pipeAddr) String() string { return string(a) }

// A pipeListener accepts what dial offers.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr("memory") }

// A Stray is a request that was sent in memory to an origin other than the server's.
type Stray struct {
	Method string
	URL    string
	Header http.Header
	Body   []byte
}

// Strays returns the requests that were sent, in memory, to any other origin, for tests that no
// token is sent there. Another scheme is another origin.
func (s *Server) Strays() []Stray {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Stray(nil), s.strays...)
}

type schemeKey struct{}

// serveMemory serves the requests that come through a pipe.
func (s *Server) serveMemory(w http.ResponseWriter, r *http.Request) {
	r.URL.Scheme = r.Context().Value(schemeKey{}).(string)
	if s.knows(origin(r)) {
		s.serve(w, r)
		return
	}
	s.serveStray(w, r)
}

func (s *Server) knows(origin string) bool {
	if origin == memoryURL || origin == memoryAPI || slices.Contains(s.cfg.Resources, origin) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return origin == s.base
}

func (s *Server) serveStray(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // The client has gone.
	}
	s.mu.Lock()
	s.strays = append(s.strays, Stray{r.Method, origin(r) + r.URL.RequestURI(), r.Header.Clone(), body})
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{})
}

// Direct returns a transport that calls the server as a function. It takes microseconds per
// request, for simulations of days of traffic. A request that is to run into a Fault or Freeze
// goes through RoundTripper, where it can go wrong like a real one; one that is under way is
// not cut by Down or Close.
func (s *Server) Direct() http.RoundTripper { return &direct{s, s.RoundTripper()} }

type direct struct {
	s    *Server
	wire *http.Transport
}

func (d *direct) CloseIdleConnections() { d.wire.CloseIdleConnections() }

func (d *direct) RoundTrip(req *http.Request) (*http.Response, error) {
	s := d.s
	if s.hasFault(req.URL.Path) || s.isFrozen(req.URL.Path) {
		return d.wire.RoundTrip(req)
	}
	ctx := req.Context()
	r := req.WithContext(ctx) // a shallow copy
	r.RequestURI = r.URL.RequestURI()
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.refuses() {
		return nil, refused(r.URL.Host)
	}
	var a *recorder
	if s.knows(origin(r)) {
		s.arrived(r)
		a = genuine(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.date(w.Header())
			s.oneAtATime(w, r, func() http.Handler { return s.mux })
		}), r)
		s.answered(r.URL.Path, a.status)
	} else {
		a = genuine(http.HandlerFunc(s.serveStray), r)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	resp := &http.Response{
		Status: strconv.Itoa(a.status) + " " + http.StatusText(a.status), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: http.NoBody, Request: req,
	}
	if req.Method != http.MethodHead && a.body.Len() > 0 {
		resp.ContentLength = int64(a.body.Len())
		resp.Body = io.NopCloser(bytes.NewReader(a.body.Bytes()))
	}
	return resp, nil
}
