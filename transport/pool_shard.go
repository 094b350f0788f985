package transport

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// A shard is a part of the logins of a Pool. The zero value is ready to use once its size is
// set.
//
// When it is full, it evicts by the clock algorithm with a second chance: the hand goes round
// the ring, and a login that was not used since the hand last came by makes room. That is
// nearly the least recently used one, and a login that is found only has to be marked, not
// moved, so finding it takes no lock.
type shard struct {
	size   int
	logins table // read without mu

	mu   sync.Mutex
	ring []*Source // the same, in the order in which the hand meets them
	hand int

	// left are the Sources that were evicted and may still be in use: by a flight, a
	// request, or the saver of an unsaved rotation. Two Sources of one login would be safe,
	// since they take turns like two processes, but Close must find every one, and Logout
	// must end the one that requests use.
	left    map[string]weak.Pointer[Source]
	sweepAt int // the size of left at which the Sources that are gone are removed from it
}

// find returns the Source of the account, and makes it if need be.
func (sh *shard) find(account string, hash uint64, p *Pool) *Source {
	if s := sh.logins.find(account, hash); s != nil {
		return s
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := sh.logins.find(account, hash); s != nil {
		return s
	}
	s := sh.left[account].Value()
	if s == nil {
		account = strings.Clone(account) // which may be a part of something large
		s = newSource(&p.cfg, account)
		s.hash = hash
		s.closed.Store(p.closed.Load()) // Close collects the others when it has set this.
	}
	delete(sh.left, s.account)
	sh.add(s)
	return s
}

// visit returns the Source of the account. If there is none in use, the new one is only among
// those that left: it can be found while somebody works with it.
func (sh *shard) visit(account string, hash uint64, p *Pool) *Source {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := cmp.Or(sh.logins.find(account, hash), sh.left[account].Value()); s != nil {
		return s
	}
	s := newSource(&p.cfg, account)
	s.hash = hash
	s.closed.Store(p.closed.Load()) // as in find
	sh.remember(s)
	return s
}

// replace returns a Source in place of one that was closed, which moves to those that may still
// be in use.
func (sh *shard) replace(closed *Source, p *Pool) *Source {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	found := sh.logins.find(closed.account, closed.hash)
	if found != nil && found != closed {
		return found // Somebody was faster.
	}
	s := newSource(&p.cfg, closed.account)
	s.hash = closed.hash
	s.closed.Store(p.closed.Load()) // as in find
	if found == nil {
		sh.add(s)
		return s
	}
	sh.leave(closed)
	sh.logins.add(s)
	sh.ring[slices.Index(sh.ring, closed)] = s
	return s
}

// add makes room for s and adds it. sh.mu is held.
func (sh *shard) add(s *Source) {
	sh.logins.add(s)
	if len(sh.ring) < sh.size {
		sh.ring = append(sh.ring, s)
		return
	}
	i := sh.cheapest()
	sh.leave(sh.ring[i])
	sh.ring[i] = s
	sh.hand = (i + 1) % len(sh.ring)
}

// maxTries bounds how many logins are compared to find the one to evict.
const maxTries = 64

// cheapest returns the index of the login to evict. sh.mu is held.
func (sh *shard) cheapest() (index int) {
	now := wallNow()
	least := math.MaxInt
	for n := range min(maxTries, len(sh.ring)) {
		i := (sh.hand + n) % len(sh.ring)
		if cost := sh.ring[i].evictionCost(now); cost < least {
			least, index = cost, i
		}
		if least == 0 {
			break
		}
	}
	return index
}

// evictionCost rates what would be lost if s were evicted. It also clears the mark that s was
// used, so that only a login that is used again keeps its second chance.
func (s *Source) evictionCost(now time.Time) int {
	used := s.used.Swap(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.flight != nil || s.unsaved != nil:
		return 3 // nothing to be gained: it stays in memory anyway
	case s.outage != nil || s.refused != nil:
		return 2 // a back-off or refusal, which the cache does not know of
	case used:
		return 1
	}
	return 0
}

// leave evicts s, which can be found again as long as it is in use. sh.mu is held.
func (sh *shard) leave(s *Source) {
	sh.logins.remove(s)
	sh.remember(s)
}

// remember adds s to those that left. sh.mu is held.
func (sh *shard) remember(s *Source) {
	if len(sh.left) >= sh.sweepAt {
		for account, w := range sh.left {
			if w.Value() == nil {
				delete(sh.left, account)
			}
		}
		sh.sweepAt = max(maxTries, 2*len(sh.left))
	}
	if sh.left == nil {
		sh.left = make(map[string]weak.Pointer[Source])
	}
	sh.left[s.account] = weak.Make(s)
}

// all returns the Sources in use, including those that were evicted.
func (sh *shard) all() []*Source {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	all := append([]*Source(nil), sh.ring...)
	for _, w := range sh.left {
		if s := w.Value(); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// sample returns a login that is in use and idle, at random, or nil.
func (sh *shard) sample() *Source {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.ring) == 0 {
		return nil
	}
	first := rand.N(len(sh.ring))
	for i := range min(maxTries, len(sh.ring)) {
		if s := sh.ring[(first+i)%len(sh.ring)]; s.cur.Load() != nil && !s.busy() {
			return s
		}
	}
	return nil
}

// due returns the logins in a part of the shard that should be refreshed now, and the shortest
// time that any token there leaves for its refresh, or 0 if none is known. Each step of a pass
// looks at another part. The last pass began at last, and so many logins are in memory.
func (sh *shard) due(step int, last time.Time, logins int) (due []*Source, window time.Duration) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := wallNow()
	for _, s := range sh.ring[len(sh.ring)*step/passSteps : len(sh.ring)*(step+1)/passSteps] {
		snap := s.cur.Load()
		if snap != nil && snap.useBefore != math.MaxInt64 && snap.useBefore > snap.refreshAt {
			if w := time.Duration(snap.useBefore - snap.refreshAt); window == 0 || w < window {
				window = w
			}
		}
		if !snap.fresh(now) && s.due(now, last, logins) {
			due = append(due, s)
		}
	}
	return due, window
}

// A table finds Sources by their accounts. It is a hash table of lists whose links are in the
// Sources themselves, so that a lookup touches the head of the list and the Source, and nothing
// else that a million logins would drive out of the processor's caches. A sync.Map in its place
// makes requests slower and idle logins larger, see BenchmarkLogins in package bench.
//
// A lookup takes no lock. While others change the table it may miss what is there, but never
// finds what is not: what was not found has to be looked up again under the lock that changes
// need. The zero value is an empty table.
type table struct {
	lists atomic.Pointer[[]atomic.Pointer[Source]] // a power of two of them
	size  int
}

// find returns the Source of the account, or nil.
func (t *table) find(account string, hash uint64) *Source {
	lists := t.lists.Load()
	if lists == nil {
		return nil
	}
	s := list(*lists, hash).Load()
	for s != nil && (s.hash != hash || s.account != account) {
		s = s.next.Load()
	}
	return s
}

func list(lists []atomic.Pointer[Source], hash uint64) *atomic.Pointer[Source] {
	return &lists[hash&uint64(len(lists)-1)]
}

// add adds s, which is not in the table.
func (t *table) add(s *Source) {
	lists := t.lists.Load()
	if lists == nil || t.size == len(*lists) {
		lists = t.grow(lists)
	}
	push(list(*lists, s.hash), s)
	t.size++
}

func push(l *atomic.Pointer[Source], s *Source) {
	s.next.Store(l.Load())
	l.Store(s)
}

// grow doubles the number of lists. Each Source that was moved points to Sources that were
// moved before it, and the others to what followed them, so every lookup ends.
func (t *table) grow(old *[]atomic.Pointer[Source]) *[]atomic.Pointer[Source] {
	if old == nil {
		old = new([]atomic.Pointer[Source])
	}
	lists := make([]atomic.Pointer[Source], max(2*len(*old), 8))
	for i := range *old {
		for s := (*old)[i].Load(); s != nil; {
			next := s.next.Load()
			push(list(lists, s.hash), s)
			s = next
		}
	}
	t.lists.Store(&lists)
	return &lists
}

// remove removes s, which is in the table.
func (t *table) remove(s *Source) {
	l := list(*t.lists.Load(), s.hash)
	for l.Load() != s {
		l = &l.Load().next
	}
	l.Store(s.next.Load())
	s.next.Store(nil) // or it would keep alive others that are removed after it
	t.size--
}
