package transport

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// maxKept is how many bytes of a response that rejects the token are kept. Real ones have a few
// hundred.
const maxKept = 64 << 10

// keepTime is how long the repeated request waits for the end of the first response, which
// frees the connection.
const keepTime = time.Second

// A keptBody is the body of a response that rejects the token. It is read into memory while the
// token is renewed, so that its connection is free for the repeated request, and the response
// is whole if that fails. A body that is slow, endless or larger than any sensible error
// message holds nobody up: what is not in memory stays on the wire for the caller to read.
type keptBody struct {
	body io.ReadCloser
	ends time.Time     // when wait gives up
	done chan struct{} // closed when nothing more is read into memory

	mu      sync.Mutex
	more    sync.Cond // signalled when data has grown or filling has ended
	data    []byte
	err     error // what ended the body, or nil
	filling bool
	wanted  bool // the caller has begun to read, and reads the rest
}

// keep starts to read the body of resp into memory.
func keep(resp *http.Response) *keptBody {
	k := &keptBody{body: resp.Body, ends: time.Now().Add(keepTime), done: make(chan struct{}), filling: true}
	k.more.L = &k.mu
	resp.Body = k
	go k.fill()
	return k
}

func (k *keptBody) fill() {
	defer close(k.done)
	buf := make([]byte, 4<<10)
	for kept, more := 0, true; more; {
		n, err := k.body.Read(buf)
		kept += n
		k.mu.Lock()
		k.data = append(k.data, buf[:n]...)
		k.err = err
		more = err == nil && kept < maxKept && !k.wanted
		k.filling = more
		k.more.Broadcast()
		k.mu.Unlock()
	}
}

// wait waits a short time for the body to be in memory, and reports whether all of it is.
func (k *keptBody) wait(ctx context.Context) (whole bool) {
	timer := time.NewTimer(time.Until(k.ends))
	defer timer.Stop()
	select {
	case <-k.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.filling && k.err != nil
}

// Read reads what is in memory, and then the rest.
func (k *keptBody) Read(p []byte) (int, error) {
	k.mu.Lock()
	k.wanted = true
	for len(k.data) == 0 && k.filling {
		k.more.Wait()
	}
	n, err := copy(p, k.data), k.err
	k.data = k.data[n:]
	k.mu.Unlock()
	switch {
	case n > 0 || len(p) == 0:
		return n, nil
	case err != nil:
		return 0, err
	}
	return k.body.Read(p)
}

// Close closes the body, which also ends a read of it that is in progress.
func (k *keptBody) Close() error { return k.body.Close() }

// rejected is rejects, together with the hook of the program, which knows the API.
func rejected(hook func(*http.Response) bool, req *http.Request, resp *http.Response) (yes bool, demanded string) {
	if yes, demanded = rejects(resp); yes {
		return true, demanded
	}
	if hook == nil || resp.StatusCode == http.StatusSwitchingProtocols { // The body of a 101 is a connection.
		return false, ""
	}
	shown := *resp
	shown.Request = req
	peek := &peekedBody{body: resp.Body}
	shown.Body = peek
	yes = hook(&shown)
	if peek.read {
		resp.Body = &keptBody{body: resp.Body, data: peek.data, err: peek.err}
	}
	return yes, ""
}

// A peekedBody is the beginning of a body, and remembers what is read.
type peekedBody struct {
	body io.Reader // nil: none
	read bool
	data []byte
	err  error
}

func (b *peekedBody) Read(p []byte) (int, error) {
	if b.body == nil || len(b.data) == maxKept {
		return 0, io.EOF
	}
	b.read = true
	n, err := b.body.Read(p[:min(len(p), maxKept-len(b.data))])
	b.data, b.err = append(b.data, p[:n]...), err
	return n, err
}

func (b *peekedBody) Close() error { return nil } // The body is the caller's.
