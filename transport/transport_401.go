package transport

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/internal/mutualtls"
)

// When an API rejects a token, rejects decides whether another one can help, Source.Reject replaces
// it, if it is old enough for that, and retry sends the request once more. The first response is
// kept meanwhile, because it is the answer if any of these steps fails.

// Reject reports that an API rejected a token with a 401, and returns the token to use instead.
// A newer token that is known already is returned at once; otherwise one refresh serves all
// callers. A token that is only seconds old is not replaced, nor is any token within 30 seconds
// of the last replacement, whichever process made that: an API that rejects everything must not
// cause a storm of refreshes. Then only a newer token in the cache helps, such as that of a new
// login.
//
// Until there is another one, the token stays in use: it may be good for other APIs. But if the
// API has demanded claims, as in Microsoft's continuous access evaluation, the token is no
// longer used by this process, nor by another that shares the login, once that has read the
// cache or has met the demand itself. The refresh asks for the claims. The challenges are those
// of the API's answer, see ParseChallenges. If the provider refuses, the error is an
// ErrLoginRequired with the claims that a login has to ask for.
//
// What a Transport does not answer with a refresh, this does not either: the API demands another
// scope, for instance, or a second factor. If no newer token is known or in the cache, the error is
// an ErrLoginRequired, or an ErrMisconfigured if the API wants another request. It wraps the
// Challenge, and may be the cause of a login.
func (s *Source) Reject(ctx context.Context, rejected Token, challenges ...Challenge) (Token, error) {
	demanded, obstacle := cure(challenges)
	var snap *snapshot
	var err error
	if obstacle == nil {
		snap, err = s.reject(ctx, rejected.AccessToken, demanded, time.Time{})
	} else {
		snap, err = s.besides(ctx, rejected.AccessToken, obstacle)
	}
	if err != nil {
		return Token{}, err
	}
	return s.handOut(snap)
}

// rejectTime is how long a response that rejects the token is held back for another token.
const rejectTime = 5 * time.Second

// retry answers a response that rejects the token. It returns the response to the repeated
// request, or resp as it came: a RoundTripper that has a response must not turn it into an
// error, nor hold it back until there is no time left to read it.
func (t *Transport) retry(src *Source, req *http.Request, body replayBody, snap *snapshot, claims string, resp *http.Response) *http.Response {
	ctx, cancel := context.WithTimeout(req.Context(), patience(req.Context()))
	defer cancel()
	if body.get == nil {
		cancel() // The refresh is for the next request; this one has its answer.
		src.reject(ctx, snap.rec.AccessToken, claims, mutualtls.Changed(t.base))
		return resp
	}
	var first *keptBody
	if resp.Body != nil {
		first = keep(resp)
	}
	next, err := src.reject(ctx, snap.rec.AccessToken, claims, mutualtls.Changed(t.base))
	if err != nil {
		return resp
	}
	return t.repeat(ctx, req, body, resp, first, func(b io.ReadCloser) (*http.Response, error) {
		return t.send(src, req, next, b, body)
	})
}

// repeat returns the response to a request that is sent once more, or resp as it came. first is
// the body of resp.
func (t *Transport) repeat(ctx context.Context, req *http.Request, body replayBody, resp *http.Response, first *keptBody, send func(io.ReadCloser) (*http.Response, error)) *http.Response {
	if first != nil && !first.wait(ctx) && t.fewConnections() {
		return resp // It has the connection that the repeated request would wait for.
	}
	b, err := body.again(ctx)
	if err != nil {
		return resp
	}
	second, err := send(b)
	if err != nil || second == nil {
		return resp
	}
	if first != nil {
		first.Close()
	}
	return second
}

// send sends req with the token of snap. b is the body to send, and body says how to get it
// again.
//
// A token that is bound to a key gets a proof, a new one each time. If the API wants a nonce in
// it, has another time, or does not accept it (RFC 9449 sections 9 and 11.1), perhaps because it
// has waited or because a proxy has sent it twice, the request is sent once more. That says
// nothing about the token: it is not refreshed, and nobody waits.
func (t *Transport) send(src *Source, req *http.Request, snap *snapshot, b io.ReadCloser, body replayBody) (*http.Response, error) {
	if snap.bound == nil {
		return t.base.RoundTrip(t.withToken(req, snap, b))
	}
	return t.sendBound(src, req, snap, b, body)
}

func (t *Transport) sendBound(src *Source, req *http.Request, snap *snapshot, b io.ReadCloser, body replayBody) (*http.Response, error) {
	resp, news, err := t.sendProven(src, req, snap, b)
	if err != nil || resp == nil || resp.StatusCode != http.StatusUnauthorized || body.get == nil ||
		!(news.Nonce && refusesProof(resp, "use_dpop_nonce") || news.Clock || refusesProof(resp, "invalid_dpop_proof")) {
		return resp, err
	}
	ctx, cancel := context.WithTimeout(req.Context(), patience(req.Context()))
	defer cancel()
	var first *keptBody
	if resp.Body != nil {
		first = keep(resp)
	}
	return t.repeat(ctx, req, body, resp, first, func(b io.ReadCloser) (*http.Response, error) {
		resp, _, err := t.sendProven(src, req, snap, b)
		return resp, err
	}), nil
}

// sendProven sends req once, with a proof. If the key does not sign, nothing is sent.
func (t *Transport) sendProven(src *Source, req *http.Request, snap *snapshot, b io.ReadCloser) (resp *http.Response, news dpop.News, err error) {
	r := t.withToken(req, snap, b)
	key, err := src.cfg.proofKey(req.Context(), snap)
	if err != nil {
		closeBody(r)
		return nil, news, err
	}
	said, err := src.cfg.servers.Prove(req.Context(), key, r, string(snap.rec.AccessToken))
	if err != nil {
		closeBody(r)
		return nil, news, notProven(err)
	}
	if resp, err = t.base.RoundTrip(r); err == nil && resp != nil {
		news = src.cfg.servers.Heard(said, resp.Header)
	}
	return resp, news, err
}

// refusesProof reports whether an API refuses a request because of its proof, with this code. If
// that wants a nonce, there is one, and it may be why, if there is no challenge: gateways drop it.
func refusesProof(resp *http.Response, code string) bool {
	all := ParseChallenges(resp.Header)
	for _, c := range all {
		if c.Scheme == "dpop" && c.code() == code {
			return true
		}
	}
	return len(all) == 0 && code == "use_dpop_nonce"
}

// fewConnections reports whether a request may have to wait until a response is closed.
func (t *Transport) fewConnections() bool {
	base, ok := mutualtls.Of(t.base)
	return ok && base.MaxConnsPerHost > 0
}

// patience returns how long a response that rejects the token may be held back: half of the
// time until the deadline of its request, and rejectTime at most.
func patience(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(rejectTime, time.Until(deadline)/2)
	}
	return rejectTime
}

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
