package endpoint

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/transport/internal/clock"
)

// A providerClock is that of the provider, as far as its last answer told it.
type providerClock struct{ ahead atomic.Int64 } // of this machine's, as a time.Duration

// maxAhead bounds for how much longer than intended a proof can be made good by a wrong Date. No
// machine is so far behind for long, and one that is ahead is no danger.
const maxAhead = time.Hour

// learn notes the time of an answer, and reports whether the request was dated by a wrong one. A
// difference of seconds is nothing.
func (c *providerClock) learn(header http.Header, sent, received time.Time) (wasOff bool) {
	machine, told := clock.Ahead(header, sent, received)
	ahead := -machine
	if !told || ahead > maxAhead {
		return false
	}
	if ahead.Abs() < 5*time.Second {
		ahead = 0
	}
	return (ahead - time.Duration(c.ahead.Swap(int64(ahead)))).Abs() >= 5*time.Second
}

func (c *providerClock) now() time.Time {
	return time.Now().Round(0).Add(time.Duration(c.ahead.Load()))
}
