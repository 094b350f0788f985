package transport

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
)

// A replayBody is the body of a request that may have to be sent twice.
type replayBody struct {
	first io.ReadCloser
	get   func() (io.ReadCloser, error) // nil if the body can be had only once
	done  func() error                  // if not nil, to be called when the body is not needed again
}

// again returns the body once more.
func (b *replayBody) again(ctx context.Context) (io.ReadCloser, error) {
	switch first := b.first.(type) {
	case *sentBody:
		return first.all.next(ctx)
	case *rewound:
		return first.r.again(ctx)
	}
	return b.get()
}

// replayable returns the body of req. A small body of known length is read into memory. One of
// unknown length is not, since it may depend on the response, as in a conversation in both
// directions; but it can be sent again if it can seek.
func replayable(req *http.Request, maxBuffered int64) (replayBody, error) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return replayBody{first: req.Body, get: noBody}, nil
	case req.GetBody != nil && inMemory(req.Body):
		return replayBody{first: req.Body, get: req.GetBody}, nil
	case req.GetBody != nil:
		return replayBody{first: sentBodyOf(req), get: req.GetBody}, nil
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
	get := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	first, _ := get()
	return replayBody{first: first, get: get}, nil
}

func noBody() (io.ReadCloser, error) { return http.NoBody, nil }

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// The types of what io.NopCloser returns.
var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))
)

// inMemory reports whether body is one for which http.NewRequest sets GetBody, which then returns
// another copy. It is sent as it is, since net/http sends what it knows to be in memory in one
// piece with the header.
func inMemory(body io.ReadCloser) bool {
	if t := reflect.TypeOf(body); t != nopCloser && t != nopCloserWriterTo {
		return false
	}
	switch reflect.ValueOf(body).Field(0).Interface().(type) {
	case *bytes.Buffer, *bytes.Reader, *strings.Reader:
		return true
	}
	return false
}

// A sentBody is a body of a request with any other GetBody. The base transport may still be
// sending it when the response has come, and GetBody may return the same body, rewound, as that
// of connect-go does. So it ends before GetBody is called.
type sentBody struct {
	all    *sentBodies
	body   io.ReadCloser
	closed atomic.Bool
	turn   chan struct{} // has room unless body is being read
	ended  bool
}

// sentBodies are those of one request, of which one at a time is sent.
type sentBodies struct {
	get  func() (io.ReadCloser, error)
	mu   sync.Mutex
	last *sentBody
}

func sentBodyOf(req *http.Request) *sentBody {
	all := &sentBodies{get: req.GetBody}
	return all.sending(req.Body)
}

func (a *sentBodies) sending(body io.ReadCloser) *sentBody {
	a.last = &sentBody{all: a, body: body, turn: make(chan struct{}, 1)}
	return a.last
}

// next ends the body that was sent last, and returns the next one. It is also what the base
// transport calls to send a request again, over another connection for instance.
func (a *sentBodies) next(ctx context.Context) (io.ReadCloser, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.last.end(ctx); err != nil {
		return nil, err
	}
	body, err := a.get()
	if err != nil {
		return nil, err
	}
	return a.sending(body), nil
}

// end closes the body, and takes it away from the request that may still be sending it.
func (b *sentBody) end(ctx context.Context) error {
	b.Close() // which also ends a read that waits for more
	select {
	case b.turn <- struct{}{}:
		b.ended = true
		<-b.turn
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if b.ended {
		return 0, errRewound
	}
	return b.body.Read(p)
}

// Close closes the body once, and does not wait for a read.
func (b *sentBody) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	return b.body.Close()
}

// A rewinder sends a seekable body once more from where it began, even though the base
// transport closes what it is given, and may still be sending it when the response has come. It
// closes the body when nobody uses it any more. Only the next request waits for a read, since that
// may wait for anything, such as the response.
type rewinder struct {
	body  io.ReadSeekCloser
	start int64
	turn  chan struct{} // has room unless body is being read or rewound

	mu    sync.Mutex
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
	r := &rewinder{body: seeker, start: start, turn: make(chan struct{}, 1), users: 1}
	first := r.part()
	return replayBody{first: first, get: func() (io.ReadCloser, error) { return r.again(context.Background()) }, done: r.release}, true
}

func (r *rewinder) part() *rewound {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users++
	r.last = &rewound{r: r}
	return r.last
}

// again rewinds the body, and takes it away from the request that may still be sending it.
func (r *rewinder) again(ctx context.Context) (io.ReadCloser, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if _, err := r.body.Seek(r.start, io.SeekStart); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last = nil
		return nil, err
	}
	return r.part(), nil
}

// release says that one of the users needs the body no longer.
func (r *rewinder) release() error {
	r.mu.Lock()
	r.users--
	unused := r.users == 0
	r.mu.Unlock()
	if !unused {
		return nil
	}
	return r.body.Close() // which also ends a read that waits for more
}

func (p *rewound) Read(b []byte) (int, error) {
	p.r.turn <- struct{}{}
	defer func() { <-p.r.turn }()
	p.r.mu.Lock()
	over := p.closed || p.r.last != p
	p.r.mu.Unlock()
	if over {
		return 0, errRewound
	}
	return p.r.body.Read(b)
}

// Close does not wait for a read.
func (p *rewound) Close() error {
	p.r.mu.Lock()
	again := p.closed
	p.closed = true
	p.r.mu.Unlock()
	if again {
		return nil
	}
	return p.r.release()
}
