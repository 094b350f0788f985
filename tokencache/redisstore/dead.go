package redisstore

import (
	"sync"
	"time"
)

// A lock whose lease has lapsed is not free: perhaps nobody could renew it, because the
// server was down, full, read-only or out of reach, and its holder lives and is in the
// middle of a refresh. Such a holder renews as soon as the server writes again. So the
// lock is taken when it has been without a lease at every look for a while in which it
// could have been renewed.
//
// A deaths remembers since when locks have been without a lease. The zero value is ready
// to use.
type deaths struct {
	mu     sync.Mutex
	seems  map[string]death // by name
	pruned time.Time
}

type death struct {
	since, last time.Time // of the looks, at all of which it was so
	sure        bool
}

// sure takes note that the lock had no lease at a look that began at the given time, when
// the server wrote, and reports whether it has been so for long enough.
func (d *deaths) sure(name string, begun time.Time, grace time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	seen, ok := d.seems[name]
	switch {
	case !ok, begun.Sub(seen.last) > 2*grace, // A holder that came back may have been cut off once more.
		!seen.sure && now.Sub(seen.last) > grace/3: // Nobody has looked, or the server took so long: who knows what it did.
		seen = death{since: now}
	}
	seen.last = now
	seen.sure = seen.sure || begun.Sub(seen.since) >= grace
	if d.seems == nil {
		d.seems = make(map[string]death)
	}
	d.seems[name] = seen
	if now.Sub(d.pruned) > 2*grace {
		d.pruned = now
		for other, seen := range d.seems {
			if now.Sub(seen.last) > 2*grace {
				delete(d.seems, other)
			}
		}
	}
	return seen.sure
}

// alive takes note that the lock is held or free, or that nobody can tell.
func (d *deaths) alive(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seems, name)
}
