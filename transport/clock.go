package transport

import (
	"sync/atomic"
	"time"
)

// clockInterval is how old the time of a clock may be.
const clockInterval = 10 * time.Millisecond

// A clock tells the time of day at the price of a look at memory. To read the system's
// clock is most of what a Transport would add to a request. While there are requests, a
// timer reads it for all, a hundred times a second; when there are none, it stops. A
// program that was frozen may read an old time until the timer runs again: what it then
// sends is refused, and repeated like any request that was. The zero value is ready to use.
type clock struct {
	time atomic.Int64 // nanoseconds since 1970; 0: the clock stands still
	used atomic.Bool  // since the last tick
}

// now returns the time of day in nanoseconds since 1970.
func (c *clock) now() int64 {
	now := c.time.Load()
	if now == 0 {
		now = time.Now().UnixNano()
		if c.time.CompareAndSwap(0, now) {
			time.AfterFunc(clockInterval, c.tick)
		}
	} else if !c.used.Load() { // Most often it is: then nothing is written here.
		c.used.Store(true)
	}
	return now
}

func (c *clock) tick() {
	if !c.used.Swap(false) {
		c.time.Store(0)
		return
	}
	c.set()
	time.AfterFunc(clockInterval, c.tick)
}

// set sets the clock if it goes. Whatever happened before is then in the past.
func (c *clock) set() {
	for {
		if old := c.time.Load(); old == 0 || c.time.CompareAndSwap(old, time.Now().UnixNano()) {
			return
		}
	}
}
