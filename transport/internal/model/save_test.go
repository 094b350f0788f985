package model

// swap replaces the stored record if it is still at old.
func (m system) swap(s *state, old, next record) bool {
	if s.store != old && m.without != compareAndSwap {
		return false
	}
	s.write(next)
	return true
}

// saved is what follows in save when trySave has succeeded.
func (m system) saved(s *state, p *process) {
	p.settled()
	if p.pc = publish; m.without == saveThenPublish {
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
		if p.replaces = s.store; !s.wins(p.pending) {
			return // once more
		}
		p.cur = s.store
	}
	p.settled()
}

// wins reports whether what is stored is to stay although next was to be saved, or
// is next.
func (s *state) wins(next record) bool {
	same := s.store.token == next.token && (!next.attempt || s.store.attempt)
	return s.store.login != next.login || s.store.generation > next.generation || same
}
