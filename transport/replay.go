package transport

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
)

// A replayBody is the body of a request that may have to be sent twice.
type replayBody struct {
	first io.ReadCloser
	again func() (io.ReadCloser, error) // nil if the body can be had only once
	done  func() error                  // to be called when it is not needed again, if not nil
}

// replayable returns the body of req. A small one of known length is read into memory.
// One of unknown length is not, since it may depend on the response, as in a
// conversation in both directions; but it can be sent again if it can seek.
func (t *Transport) replayable(req *http.Request) (replayBody, error) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return replayBody{first: req.Body, again: noBody}, nil
	case req.GetBody != nil:
		return replayBody{first: req.Body, again: req.GetBody}, nil
	case req.ContentLength > 0 && req.ContentLength <= t.maxReplayBody:
		return buffered(req)
	}
	if b, ok := rewindable(req.Body); ok {
		return b, nil
	}
	return replayBody{first: req.Body}, nil
}

// buffered reads the body of req into memory.
func buffered(req *http.Request) (replayBody, error) {
	defer req.Body.Close()
	// As net/http does with the request of a context that ends.
	defer context.AfterFunc(req.Context(), func() { req.Body.Close() })()
	// One byte more than announced, so that the base transport still sees a body that
	// is longer than its Content-Length, and refuses it.
	data, err := io.ReadAll(io.LimitReader(req.Body, req.ContentLength+1))
	if err != nil {
		return replayBody{}, cmp.Or(context.Cause(req.Context()), err)
	}
	again := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	first, _ := again()
	return replayBody{first: first, again: again}, nil
}

func noBody() (io.ReadCloser, error) { return http.NoBody, nil }

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
