package transport

import "sync/atomic"

// A table finds Sources by their accounts. It is a hash table of lists whose links are
// in the Sources themselves, so that a look touches the place of the list and the Source,
// and nothing else that a million logins would drive out of the processor's caches. With a
// sync.Map in its place a request for one of a million takes longer by more than a tenth,
// and an idle login more than the 1 KiB that it may, see BenchmarkLogins in package bench.
//
// Looking takes no lock. A look while others change the table may miss what is there,
// and never finds what is not: what was not found has to be looked for again under the
// lock that changes need. The zero value is an empty table.
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

// grow doubles the number of lists. Each Source that is moved points to Sources that were
// moved before it, and the others to what followed them: a look comes to an end.
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
	s.next.Store(nil) // or it would keep others in memory that are removed after it
	t.size--
}
