package endpoint

import (
	"net/http"
	"sync/atomic"
	"time"
)

// A clock is that of the provider, as far as its last answer told it.
type clock struct{ ahead atomic.Int64 } // of this machine's, as a time.Duration

// maxAhead bounds for how much longer than intended a proof can be made good by a wrong Date. No
// machine is so far behind for long, and one that is ahead is no danger.
const maxAhead = time.Hour

// learn notes the time of an answer that came straight from the provider, and reports whether
// the request was dated by a wrong one. A difference of seconds is nothing.
func (c *clock) learn(header http.Header, sent, received time.Time) (wasOff bool) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil || header.Get("Age") != "" {
		return false
	}
	ahead := date.Sub(sent.Add(received.Sub(sent) / 2))
	if ahead > maxAhead {
		return false
	}
	if ahead.Abs() < 5*time.Second {
		ahead = 0
	}
	return (ahead - time.Duration(c.ahead.Swap(int64(ahead)))).Abs() >= 5*time.Second
}

func (c *clock) now() time.Time { return time.Now().Round(0).Add(time.Duration(c.ahead.Load())) }
