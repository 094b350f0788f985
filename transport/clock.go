package transport

import (
	"sync/atomic"
	"time"
)

// clockInterval is how old the time of a clock may be, and clockTicks how often a clock
// is set before somebody has to start it anew.
const (
	clockInterval = 10 * time.Millisecond
	clockTicks    = 100
)

// A clock tells the time of day at the price of a look at memory. To read the system's
// clock is most of what a Transport would add to a request. So the first of them starts a
// timer that reads it for all, a hundred times in a second, and then stops. A program that
// was frozen may read an old time until the timer runs again: what it then sends is
// refused, and repeated like any request that was. The zero value is ready to use.
type clock struct {
	time atomic.Int64 // nanoseconds since 1970; 0: the clock stands still
}

// now returns the time of day in nanoseconds since 1970.
func (c *clock) now() int64 {
	if now := c.time.Load(); now != 0 {
		return now
	}
	now := time.Now().UnixNano()
	if c.time.CompareAndSwap(0, now) {
		c.run(clockTicks)
	}
	return now
}

func (c *clock) run(ticks int) {
	time.AfterFunc(clockInterval, func() {
		if ticks == 0 {
			c.time.Store(0)
			return
		}
		c.set()
		c.run(ticks - 1)
	})
}

// set sets the clock if it goes. Whatever happened before is then in the past.
func (c *clock) set() {
	for {
		if old := c.time.Load(); old == 0 || c.time.CompareAndSwap(old, time.Now().UnixNano()) {
			return
		}
	}
}
