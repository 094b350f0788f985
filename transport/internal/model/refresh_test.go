package model

// look is the function of that name in adopt.go, called by fly.
func (m system) look(s *state, p *process) {
	r := s.store
	p.seen = r
	switch {
	case s.adopt(p, r):
		p.rest()
	case r.tombstone && !newer(p.cur, r):
		p.dead = r
		p.rest()
	default:
		p.pc = lock
	}
}

// adopt is the function of that name in adopt.go.
func (s *state) adopt(p *process, r record) bool {
	if !newer(r, p.cur) || !s.fresh(r) {
		return false
	}
	p.cur, p.dead = r, record{}
	return true
}

// newest is Source.load in refresh.go.
func (s *state) newest(p *process) (r, version record) {
	if p.pending.login != 0 {
		return p.pending, p.replaces
	}
	if p.cur.login == s.store.login && p.cur.generation > s.store.generation {
		return p.cur, s.store
	}
	return s.store, s.store
}

// load is steps 2 and 3 of refresh.
func (m system) load(s *state, p *process) {
	p.pc = unlock
	if p.rounds++; p.rounds > maxRounds {
		return
	}
	r, version := s.newest(p)
	if m.without == theReread {
		r, version = p.seen, p.seen
	}
	switch {
	case s.adopt(p, r):
		return
	case r.tombstone:
		p.dead = r
		return
	case p.dead.login == r.login && p.dead.token == r.token:
		m.swap(s, version, p.dead) // spendable
		return
	}
	p.from, p.version, p.interrupted, p.unknown, p.tries = r, version, false, false, 0
	p.from.attempt = false
	p.interrupted = r.attempt
	if p.pc = present; p.pending.login == 0 && !r.attempt && m.without != theJournal {
		p.pc = journal
	}
}

// note is the part of prepare that writes.
func (s *state) note(p *process) bool {
	if s.store != p.version {
		return false
	}
	p.version = p.from
	p.version.attempt = true
	s.write(p.version)
	return true
}

func (s *state) release(p *process) {
	if p.holds {
		s.holder, p.holds = 0, false
	}
}
