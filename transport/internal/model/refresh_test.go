package model

// look is reload in source_entry.go, called by fly.
func (m system) look(s *state, p *process) {
	r := s.store
	p.seen = r
	switch {
	case m.adopt(s, p, r):
		p.rest()
	case r.tombstone && !newer(p.cur, r):
		p.dead = r
		p.rest()
	default:
		p.pc = lock
	}
}

// adopt is the function of that name in source_entry.go.
func (m system) adopt(s *state, p *process, r record) bool {
	if !newer(r, p.cur) || !m.fresh(s, r) {
		return false
	}
	p.cur, p.dead = r, record{}
	return true
}

// newest is Source.load in source_entry.go.
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
	if m.lacks(theReread) {
		r, version = p.seen, p.seen
	}
	switch {
	case m.adopt(s, p, r):
		return
	case r.tombstone:
		p.dead = r
		return
	case p.dead.login == r.login && p.dead.token == r.token:
		m.swap(s, version, p.dead) // spendable
		return
	}
	p.from, p.version, p.interrupted = r, version, r.attempt
	p.from.attempt = false
	if p.pc = await; !p.interrupted {
		m.prepare(s, p)
	}
}

// again starts the loop of refresh, or starts it over.
func again(_ *state, p *process) {
	if p.pc = load; p.pending.login != 0 {
		p.pc = settle
	}
}

// arrived reports whether awaitLostRequest has come to an end: whatever was sent
// before the journal was written has been received.
func (s *state) arrived(p *process) bool {
	return s.late == 0 || !s.noted && p.pending.login == 0
}

// mayPresent reports whether a refresh token with a note may be presented: a second after
// it was presented last, and when the provider has answered a question, as it does when it
// is not frozen any more and has worked through what it was sent.
func (m system) mayPresent(s *state, p *process) bool {
	switch {
	case s.arrived(p) || s.pace == slow:
		return true
	case s.pace == frozen:
		return m.lacks(theQuestion)
	}
	return m.lacks(theWait)
}

// prepare is what follows awaitLostRequest.
func (m system) prepare(_ *state, p *process) {
	p.pc = journal
	if p.pending.login != 0 || m.lacks(theJournal) || m.lacks(theNewNote) && p.interrupted {
		p.pc = present
	}
}

// note is the part of prepare that writes.
func (m system) note(s *state, p *process, confirmed bool) bool {
	noted := p.from
	noted.attempt = true
	if s.store != p.version || !m.replace(s, p.version, noted, confirmed) {
		return false
	}
	p.version, p.noted, s.noted = noted, true, true
	return true
}

func (s *state) release(p *process) {
	if p.holds {
		s.holder, p.holds = 0, false
	}
}
