package pgstore

import (
	"maps"
	"slices"
	"sync"
)

// A hold is a lock that this process takes, has, or has not released for sure.
type hold struct {
	s         *Store
	name      string
	turn      int64  // numbers the holds of this process
	leaveGate func() // and
	leave     func() // the session

	once   sync.Once
	called bool  // end was called, and may have released the lock
	ended  bool  // it has
	err    error // and this is how that went

	// Guarded by holds.
	has      bool          // the lock, as far as this process knows
	uptime   int64         // the id of uptime when it was taken
	retaking chan struct{} // closed when the last attempt to take it again has ended; nil: there was none
}

// holds are those of this process. The zero value is ready to use.
type holds struct {
	mu     sync.Mutex
	last   int64           // the last turn
	open   map[int64]*hold // by turn
	uptime int64           // the id of uptime, as far as the session knows
}

// begin is called before the lock is taken, and over when it is released for sure.
func (a *holds) begin(h *hold) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = make(map[int64]*hold)
	}
	a.last++
	h.turn = a.last
	a.open[h.turn] = h
}

func (h *hold) over() {
	a := &h.s.holds
	a.mu.Lock()
	delete(a.open, h.turn)
	a.mu.Unlock()
	h.leave()
}

// taken is called when the lock was taken while uptime had the id. It reports whether no break
// has been noticed since. From now on the lock is taken again after each one.
func (a *holds) taken(h *hold, id int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	h.has, h.uptime = id == a.uptime, id
	return h.has
}

// released is called when the lock was released, and waits while it is being taken again. It
// reports whether it may have to be released once more.
func (a *holds) released(h *hold) (again bool) {
	a.mu.Lock()
	h.has = false
	retaking := h.retaking
	a.mu.Unlock()
	if retaking == nil {
		return false
	}
	<-retaking
	return true
}

// others returns the last turn, and those until then whose lock may not be released yet.
func (a *holds) others() (last int64, open []int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last, slices.AppendSeq([]int64{}, maps.Keys(a.open))
}

// lost returns the locks that were taken when uptime had another id, and what to call when they
// have been taken again, as far as that can be done. Without a table none is known to be lost.
func (a *holds) lost(id int64) (lost []*hold, done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uptime = id
	retaking := make(chan struct{})
	for _, h := range a.open {
		if h.has && h.uptime != id && id != 0 {
			lost = append(lost, h)
			h.retaking = retaking
		}
	}
	return lost, func() { close(retaking) }
}

func (a *holds) retaken(h *hold, id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h.uptime = id
}
