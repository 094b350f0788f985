package transport

import (
	"net/http"
	"testing"
	"time"
)

// However short the pause of a back-off with jitter, the first above all, a provider that
// is down is left alone for a second by all who share its gate.
func TestAProviderIsLeftAloneForASecond(t *testing.T) {
	e := &Error{Kind: ErrUnavailable, Status: http.StatusServiceUnavailable}
	for range 1000 {
		g := new(Gate)
		for attempt := range 3 {
			g.failed(nil, e, true, true)
			soon := wallNow().Add(900 * time.Millisecond)
			for _, wanted := range []bool{false, true} {
				if g.blocks(soon, wanted) == nil {
					t.Fatalf("after attempt %d, the next may begin at once (wanted: %t)", attempt+1, wanted)
				}
			}
		}
	}
}

// A provider that has had enough (429) is asked the more rarely, the longer it says so, however
// many callers have no token. Else the callers decide how often a provider that is down is asked.
func TestAThrottledProviderIsAskedMoreAndMoreRarely(t *testing.T) {
	attempts := func(e *Error, d time.Duration) (n int) {
		g, begun := new(Gate), wallNow()
		g.outage = new(outage)
		for now := begun; now.Before(begun.Add(d)); now = now.Add(time.Second) { // a call each second
			if n == 0 || g.outage.blocks(now, true) == nil {
				g.outage.fail(now, e, true, 0)
				n++
			}
		}
		return n
	}
	throttled := &Error{Kind: ErrUnavailable, Status: http.StatusTooManyRequests, RetryAfter: 30 * time.Second}
	if n := attempts(throttled, 30*time.Minute); n < 55 || n > 60 {
		t.Errorf("%d attempts in half an hour, and Retry-After is 30 s", n)
	}
	if n := attempts(throttled, 6*time.Hour); n > 420 {
		t.Errorf("%d attempts in 6 hours", n)
	}
	down := &Error{Kind: ErrUnavailable, Status: http.StatusServiceUnavailable}
	if n := attempts(down, 6*time.Hour); n < 6*3600/12 {
		t.Errorf("%d attempts in 6 hours: callers wait for too long when the provider is back", n)
	}
}

// A clock that is set back in an outage, by however little, ends the pause: what is left of it means
// nothing any more, and callers without a token would wait for as long as the clock was wrong.
func TestAClockThatIsSetBackEndsThePause(t *testing.T) {
	for _, e := range []*Error{
		{Kind: ErrUnavailable}, {Kind: ErrAmbiguous}, {Kind: ErrMisconfigured},
		{Kind: ErrUnavailable, Status: http.StatusTooManyRequests, RetryAfter: 10 * time.Minute},
	} {
		o, now := new(outage), wallNow()
		o.fail(now, e, true, 0)
		for _, wanted := range []bool{false, true} {
			if o.blocks(now, wanted) == nil || o.blocks(now.Add(-time.Millisecond), wanted) == nil || o.isDue(now) {
				t.Errorf("%v: no pause", e.Kind)
			}
			for _, back := range []time.Duration{2 * time.Second, 2 * time.Minute, 19 * time.Minute, 20 * time.Hour} {
				if e := o.blocks(now.Add(-back), wanted); e != nil || !o.isDue(now.Add(-back)) {
					t.Errorf("set back by %v, wanted %t: %v", back, wanted, e)
				}
			}
		}
	}
}
