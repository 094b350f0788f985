package transport

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// A replayBody is the body of a request that may have to be sent twice.
type replayBody struct {
	first io.ReadCloser
	again func() (io.ReadCloser, error) // nil if the body can be had only once
	done  func() error                  // if not nil, to be called when the body is not needed again
}

// replayable returns the body of req. A small body of known length is read into memory. One of
// unknown length is not, since it may depend on the response, as in a conversation in both
// directions; but it can be sent again if it can seek.
func replayable(req *http.Request, maxBuffered int64) (replayBody, error) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return replayBody{first: req.Body, again: noBody}, nil
	case req.GetBody != nil:
		return replayBody{first: req.Body, again: req.GetBody}, nil
	case req.ContentLength > 0 && req.ContentLength <= maxBuffered:
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
	// As net/http does with the body of a request whose context ends.
	defer context.AfterFunc(req.Context(), func() { req.Body.Close() })()
	// One byte more than announced, so that the base transport still sees that a body is
	// longer than its Content-Length, and fails.
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

// A rewinder sends a seekable body once more from where it began, even though the base
// transport closes what it is given, and may still be sending it when the response has come. It
// closes the body when nobody uses it any more.
type rewinder struct {
	mu    sync.Mutex
	body  io.ReadSeekCloser
	start int64
	users int      // the request, and each rewound that is not closed
	last  *rewound // the one that may read
}

// A rewound is the body as the base transport gets it for one of the requests.
type rewound struct {
	r      *rewinder
	closed bool
}

var errRewound = errors.New("stayauth: the request is being sent again")

// rewindable returns body as one that can be sent twice. It returns false for a body that
// cannot seek, such as a pipe, although an *os.File has the method.
func rewindable(body io.ReadCloser) (b replayBody, ok bool) {
	seeker, ok := body.(io.ReadSeekCloser)
	if !ok {
		return b, false
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return b, false
	}
	r := &rewinder{body: seeker, start: start, users: 1}
	return replayBody{first: r.part(), again: r.again, done: r.release}, true
}

func (r *rewinder) part() *rewound {
	r.users++
	r.last = &rewound{r: r}
	return r.last
}

// again rewinds the body, and takes it away from the request that may still be sending it.
func (r *rewinder) again() (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.body.Seek(r.start, io.SeekStart); err != nil {
		r.last = nil
		return nil, err
	}
	return r.part(), nil
}

// release says that one of the users needs the body no longer.
func (r *rewinder) release() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drop()
}

func (r *rewinder) drop() error {
	if r.users--; r.users > 0 {
		return nil
	}
	return r.body.Close()
}

func (p *rewound) Read(b []byte) (int, error) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.closed || p.r.last != p {
		return 0, errRewound
	}
	return p.r.body.Read(b)
}

func (p *rewound) Close() error {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return p.r.drop()
}
