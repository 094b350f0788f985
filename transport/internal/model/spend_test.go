package model

// present is spend, and what refresh and noAnswer make of its outcome.
func (m system) present(s *state, p *process, do func(string, func(*state, *process))) {
	do("presents its refresh token", func(s *state, p *process) {
		answer, ok := m.ask(s, p)
		if !ok {
			p.pc = reload
			return
		}
		p.next = record{login: p.from.login, generation: p.from.generation + 1, token: answer}
		if p.pc, p.tries = save, 0; m.without == saveThenPublish {
			p.pc = publish
		}
	})
	if s.left.lost == 0 {
		return
	}
	noAnswer := func(p *process) {
		p.pc = unlock
		if unknown := p.interrupted || p.unknown; p.pending.login != 0 {
			p.pending.attempt = unknown
		} else if !unknown {
			p.pc = clearNote
		}
	}
	do("cannot reach the provider", func(s *state, p *process) { s.left.lost--; noAnswer(p) })
	request := func(s *state, p *process) { s.left.lost--; p.unknown = true }
	answer := func(s *state, p *process) {
		request(s, p)
		if answer, ok := m.ask(s, p); ok {
			s.family(p.from).orphan(answer)
		}
	}
	do("presents its refresh token; the request is lost", func(s *state, p *process) { request(s, p); noAnswer(p) })
	do("presents its refresh token; the answer is lost", func(s *state, p *process) { answer(s, p); noAnswer(p) })
	if p.tries < promptRetries {
		do("presents its refresh token; the request is lost, and it tries again", func(s *state, p *process) { request(s, p); p.tries++ })
		do("presents its refresh token; the answer is lost, and it tries again", func(s *state, p *process) { answer(s, p); p.tries++ })
	}
}

// ask presents the refresh token to the provider.
func (m system) ask(s *state, p *process) (token, bool) {
	f := s.family(p.from)
	if f.superseded.has(p.from.token) {
		s.broken = "a refresh token was presented after its successor had been saved"
	}
	gone := f.revoked // and this is not what ended it
	answer, ok := f.present(m.policy, p.from.token)
	if !ok && !gone && s.broken == "" && f.orphaned < m.fatal() {
		s.broken = "the login was lost, although the provider forgives what had happened"
	}
	return answer, ok
}

// fatal is the number of successors in a row that have to be lost for the provider
// to end the login.
func (m system) fatal() int8 {
	switch m.policy {
	case strict:
		return 1
	case oneDeep:
		return m.grace
	}
	return 127
}

// tombstone returns the record that says that the refresh token is dead.
func (p *process) tombstone() record {
	r := p.from
	r.tombstone, r.interrupted = true, p.interrupted || p.unknown
	return r
}

// die ends noAnswer after a refusal.
func (s *state) die(p *process, tomb record) {
	if !tomb.interrupted && !s.family(tomb).unsaved {
		s.broken = "a login was lost without an explanation"
	}
	p.settled()
	p.dead, p.pc = tomb, unlock
}
