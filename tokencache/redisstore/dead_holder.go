package redisstore

import (
	"sync"
	"time"
)

// A lock whose lease has lapsed is not free: perhaps nobody could renew it, because the server
// was down, full, read-only or out of reach, and its holder is alive and in the middle of a
// refresh. Such a holder renews as soon as the server accepts writes again. So others take the
// lock only when it has had no lease at any check for a while in which it could have been
// renewed.
//
// deaths records since when locks have had no lease. The zero value is ready to use.
type deaths struct {
	mu     sync.Mutex
	seems  map[string]death // by name
	pruned time.Time
}

type death struct {
	since, last time.Time // of the first and the last check; at none of them was there a lease
	sure        bool
}

// sure records that the lock had no lease at a check that began at the given time, when the
// server accepted writes, and reports whether that has been so for long enough.
func (d *deaths) sure(name string, begun time.Time, grace time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	seen, ok := d.seems[name]
	switch {
	case !ok, begun.Sub(seen.last) > 2*grace, // A holder that came back may have been cut off again.
		!seen.sure && now.Sub(seen.last) > grace/3: // There was no check for a while, or the server was slow, and its state is unknown.
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

// alive records that the lock is held or free, or that this is unknown.
func (d *deaths) alive(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seems, name)
}
