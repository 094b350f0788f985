package endpoint

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/httphooks"
	"github.com/stayauth/stayauth/transport/internal/neterror"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// A provider that is frozen or slow for a minute works through all that it was sent when
// it goes on: the first presentation of a refresh token rotates it, and a second one is
// taken for theft. So a token is not presented again while the first request may still be
// answered. Time is divided by what it bounds:
//
//   - what is needed to send a request takes seconds: nothing was sent if it fails;
//   - a path that has died shows it by itself, within pathTimeout, because the kernel of
//     a peer acknowledges even what its process is too busy or frozen to read;
//   - the answer, on a path that lives, may take minutes. Meanwhile harmless questions
//     tell a provider that is slow from one that is not there at all. One that was away,
//     is back, and still does not answer the request has lost it.
const (
	requestTimeout = 15 * time.Second // of what may be sent twice, and of what is needed to send
	answerTimeout  = 5 * time.Minute
	pathTimeout    = 15 * time.Second

	questionPause   = time.Second
	questionTimeout = 2 * time.Second
	awayTime        = 10 * time.Second // A provider that is merely overloaded answers some questions.
	backTime        = 5 * time.Second  // for the answer, once the provider is back
)

// Reasons to wait no longer for an answer.
var (
	errNotConnected = errors.New("no connection within 15 s")
	errTimeout      = context.DeadlineExceeded
	errForgotten    = errors.New("the provider was away, and has lost the request")
)

// wait waits with the request, and gives up if there is reason to. ask says that the
// provider may be asked harmless questions meanwhile.
func (e *Endpoint) wait(ctx context.Context, giveUp context.CancelCauseFunc, p *progress, timeout time.Duration, ask bool) {
	ask = ask && timeout > requestTimeout // Else there is nothing to be decided.
	left := timeout
	wait := func(d time.Duration) bool {
		d = min(d, left)
		left -= d
		return sleep.Running(ctx, d)
	}
	if !wait(requestTimeout) {
		return
	}
	if p.notSent() && timeout >= requestTimeout {
		giveUp(errNotConnected)
		return
	}
	var silent, back time.Duration // how long no question was answered, and then every one
	for ask && left > 0 && back < backTime {
		began := time.Now()
		err := e.probeWithin(ctx, questionTimeout)
		if !sleep.For(ctx, questionPause) {
			return
		}
		took := min(time.Since(began), questionTimeout+2*questionPause) // not while it was stopped
		switch {
		case err == nil && silent >= awayTime:
			if back == 0 { // The question has waited for the provider too.
				took = questionPause
			}
			back += took
			continue
		case err == nil:
			silent = 0
		default:
			silent, back = silent+took, 0
			if err.Status == 0 && err.Timeout() {
				continue // A provider that answers nobody is waited for. One that turns questions away is there.
			}
		}
		left -= took
	}
	if back >= backTime {
		giveUp(errForgotten)
		return
	}
	giveUp(errTimeout)
}

// Probe asks the provider a harmless question, to learn whether it would deal with a
// request now: any answer that is not a server's failure (5xx) is good news. No secret is
// sent. If the error, which is an *Error, has a Status, the provider has answered. All who
// want to know at the same time share one question.
func (e *Endpoint) Probe(ctx context.Context) error {
	if err := e.probe(ctx); err != nil {
		return err
	}
	return nil
}

func (e *Endpoint) probe(ctx context.Context) *transport.Error {
	return e.shared().question.ask(ctx, e.probeNow)
}

func (e *Endpoint) probeWithin(ctx context.Context, d time.Duration) *transport.Error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return e.probe(ctx)
}

func (e *Endpoint) probeNow(ctx context.Context) *transport.Error {
	ctx = httphooks.Without(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, e.TokenURL, http.NoBody)
	if err != nil {
		return nil // Refresh will say what is wrong.
	}
	resp, err := e.send(req)
	if err != nil {
		cause := neterror.Safe(err)
		if ctx.Err() != nil {
			cause = ctx.Err()
		}
		return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: cause}
	}
	resp.Body.Close()
	if resp.StatusCode/100 == 5 && resp.StatusCode != http.StatusNotImplemented {
		return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Status: resp.StatusCode,
			RetryAfter: retryAfter(resp.Header.Get("Retry-After"), wallNow())}
	}
	return nil
}

// progress watches how far a request got. Whether any of it was written decides
// whether a refresh token may have been spent.
type progress struct{ started, wrote atomic.Bool }

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		// http.Transport asks for a second connection only if the server cannot have
		// seen anything of the request on the first: an idle one that had been closed.
		GetConn:          func(string) { p.started.Store(true); p.wrote.Store(false) },
		GotConn:          func(info httptrace.GotConnInfo) { watchPath(info.Conn) },
		WroteHeaderField: func(string, []string) { p.wrote.Store(true) },
	}
}

// notSent reports whether it is certain that nothing was written.
func (p *progress) notSent() bool { return p.started.Load() && !p.wrote.Load() }

// watchPath lets the system find out when the other end of a connection is not there any
// more. A peer whose process is frozen or busy still has a kernel that acknowledges;
// behind a proxy it is the proxy's.
func watchPath(c net.Conn) {
	for {
		inner, ok := c.(interface{ NetConn() net.Conn }) // TLS
		if !ok {
			break
		}
		c = inner.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	// Asked while nothing is under way: after 5 s, and then twice more. The errors do not
	// matter: without these signs the answer is waited for all the same.
	tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: pathTimeout / 3, Interval: pathTimeout / 3, Count: 2})
	if raw, err := tcp.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { setUserTimeout(fd, pathTimeout) }) // for what is not acknowledged
	}
}
