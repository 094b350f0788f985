package model

// swap replaces the stored record if it is still at old.
func (m system) swap(s *state, old, next record) bool { return m.replace(s, old, next, true) }

// replace is swap, but the store may not confirm what it has written. It may forget that
// in a crash of its own.
func (m system) replace(s *state, old, next record, confirmed bool) bool {
	if s.store != old && !m.lacks(compareAndSwap) {
		return false
	}
	if confirmed || m.budget.oblivion == 0 {
		s.write(next)
		return true
	}
	if s.behind.login == 0 {
		s.behind = s.store
	}
	s.store = next
	return true
}

// saved is what follows in save when trySave has succeeded.
func (m system) saved(s *state, p *process) {
	p.settled()
	if p.pc = publish; m.lacks(saveThenPublish) {
		p.pc = unlock
	}
}

// notSaved is what follows in save when trySave has failed: once more, or keep.
func notSaved(_ *state, p *process) {
	if p.tries++; p.tries < saveTries {
		p.pc = save
		return
	}
	p.pending, p.replaces, p.pc = p.next, p.version, publish
}

// settled is the function of that name in save.go.
func (p *process) settled() { p.pending, p.replaces = record{}, record{} }

// savePending is the function of that name in save.go.
func (m system) savePending(s *state, p *process) {
	if !m.swap(s, p.replaces, p.pending) {
		if p.replaces = s.store; !m.wins(s, p.pending) {
			return // once more
		}
		p.cur = s.store
	}
	p.settled()
}

// wins reports whether what is stored is to stay although next was to be saved. Tokens are numbered in the order of Record.ObtainedAt.
func (m system) wins(s *state, next record) bool {
	switch stored := s.store; {
	case stored.login != next.login:
		return true
	case stored.generation != next.generation:
		return stored.generation > next.generation
	case stored.token == next.token:
		return m.lacks(theConfirmation) && (!next.attempt || stored.attempt)
	case stored.token > next.token:
		return !m.lacks(theLaterStays)
	default:
		return m.lacks(theLaterWins)
	}
}
