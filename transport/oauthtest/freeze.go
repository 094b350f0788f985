package oauthtest

import (
	"bytes"
	"context"
	"io"
	"net/http"
)

// Freeze makes the server accept connections and requests, but answer nothing until Thaw: a
// stopped process, an overload, a failover. Then it works through what has arrived, in order
// and one after the other, even for clients that have gone meanwhile. The first request of a
// client that asked repeatedly rotates its refresh token, and the second is a reuse.
//
// The API is another server, and goes on. Close drops what is waiting.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen == nil {
		s.frozen = make(chan struct{})
	}
}

// Thaw ends Freeze.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil {
		close(s.frozen)
		s.frozen = nil
	}
}

// isFrozen reports whether a request to path would have to queue.
func (s *Server) isFrozen(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !isAPI(path) && (s.frozen != nil || s.last != nil)
}

// queue waits until the server is not frozen and the requests before this one are done. The
// request that it returns outlives its client. A caller that gets one must call done.
func (s *Server) queue(r *http.Request) (_ *http.Request, done func(), err error) {
	if !s.isFrozen(r.URL.Path) {
		return r, func() {}, nil
	}
	r, err = whole(r)
	if err != nil {
		return nil, nil, err
	}
	mine := make(chan struct{})
	s.mu.Lock()
	before := s.last
	s.last = mine
	s.mu.Unlock()
	done = func() {
		close(mine)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.last == mine {
			s.last = nil
		}
	}
	closing := closing(r.Context())
	if before != nil {
		select {
		case <-before:
		case <-closing.Done():
		}
	}
	for closing.Err() == nil {
		s.mu.Lock()
		frozen := s.frozen
		s.mu.Unlock()
		if frozen == nil {
			return r, done, nil
		}
		select {
		case <-frozen:
		case <-closing.Done():
		}
	}
	done()
	return nil, nil, closing.Err()
}

// whole reads the body, and returns the request as one that no longer depends on the client,
// only on the server.
func whole(r *http.Request) (*http.Request, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r = r.WithContext(outliving{r.Context(), closing(r.Context())})
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r, nil
}

type closingKey struct{}

// closing returns a context that is done when the server is closed; behind a listener of the
// test's own it never is.
func closing(ctx context.Context) context.Context {
	if c, ok := ctx.Value(closingKey{}).(context.Context); ok {
		return c
	}
	return context.Background()
}

// outliving has the values of one context and the cancellation of another.
type outliving struct {
	values context.Context
	context.Context
}

func (c outliving) Value(key any) any { return c.values.Value(key) }
