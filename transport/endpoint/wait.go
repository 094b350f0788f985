package endpoint

import (
	"context"
	"errors"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/deadpath"
	"github.com/stayauth/stayauth/transport/internal/sleep"
)

// A provider that is frozen or slow for a minute works through all the requests that it was
// sent once it goes on: the first presentation of a refresh token rotates it, and a second one
// is taken for theft. So a token is not presented again while the first request may still be
// answered. There are three time limits:
//
//   - getting a request sent takes seconds; if that fails, nothing was sent;
//   - a dead path is noticed within pathTimeout, because the kernel of a live peer acknowledges
//     even what its process is too busy or frozen to read;
//   - the answer, on a live path, may take minutes. Meanwhile harmless questions tell a
//     provider that is slow from one that is not there at all. One that was away, is back, and
//     still does not answer the request has lost it.
const (
	answerTimeout = 5 * time.Minute
	pathTimeout   = 15 * time.Second

	questionPause   = time.Second
	questionTimeout = 2 * time.Second
	awayTime        = 10 * time.Second // a provider that is merely overloaded answers some questions
	backTime        = 5 * time.Second  // to wait for the answer once the provider is back
)

// The reasons to give up waiting for an answer.
var (
	errNotConnected = errors.New("no connection within 15 s")
	errTimeout      = context.DeadlineExceeded
	errForgotten    = errors.New("the provider was away, and has lost the request")
)

// wait runs beside the request, and gives up if there is a reason to. probe asks the provider a
// harmless question; nil means that there are no questions.
func (p *progress) wait(ctx context.Context, giveUp context.CancelCauseFunc, timeout time.Duration, probe func(context.Context) *transport.Error) {
	ask := probe != nil && timeout > requestTimeout // Otherwise there is nothing to decide.
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
	var silent, back time.Duration // for how long no question was answered, and then every one
	for ask && left > 0 && back < backTime {
		began := time.Now()
		asking, cancel := context.WithTimeout(ctx, questionTimeout)
		err := probe(asking)
		cancel()
		if !sleep.For(ctx, questionPause) {
			return
		}
		// Time in which this process was stopped does not count.
		took := min(time.Since(began), questionTimeout+2*questionPause)
		switch {
		case err == nil && silent >= awayTime:
			if back == 0 { // The question waited for the provider too.
				took = questionPause
			}
			back += took
			continue
		case err == nil:
			silent = 0
		default:
			silent, back = silent+took, 0
			if err.Status == 0 && err.Timeout() {
				// A provider that answers nothing is waited for. One that turns
				// questions away is there.
				continue
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

// progress watches how far a request gets. Whether any of it was written decides whether a
// refresh token may have been spent.
type progress struct{ started, wrote atomic.Bool }

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		// http.Transport asks for a second connection only if the server cannot have
		// seen anything of the request on the first, which was idle and had been
		// closed.
		GetConn:          func(string) { p.started.Store(true); p.wrote.Store(false) },
		GotConn:          func(info httptrace.GotConnInfo) { deadpath.Watch(info.Conn, pathTimeout) },
		WroteHeaderField: func(string, []string) { p.wrote.Store(true) },
	}
}

// notSent reports whether it is certain that nothing was written.
func (p *progress) notSent() bool { return p.started.Load() && !p.wrote.Load() }
