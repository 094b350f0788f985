package model

// present is step 6 of refresh, and what noAnswer and retryNow make of its outcome.
func (m system) present(s state, p process, do func(string, func(*state, *process))) {
	do("presents its refresh token", func(s *state, p *process) {
		answer, ok := m.ask(s, p)
		if p.noted = false; !ok {
			p.pc = reload
			return
		}
		p.next = record{login: p.from.login, generation: p.from.generation + 1, token: answer}
		if p.pc, p.tries = save, 0; m.lacks(saveThenPublish) {
			p.pc = publish
		}
	})
	if s.left.lost == 0 {
		return
	}
	do("cannot reach the provider", func(s *state, p *process) { s.left.lost--; p.noAnswer(false) })
	unknown := func(how string, happens func(s *state, p *process)) {
		how = "presents its refresh token; " + how
		fail := func(s *state, p *process) {
			happens(s, p)
			s.left.lost--
			p.noted = false
			p.noAnswer(true)
		}
		do(how, fail)
		if p.tries < promptRetries { // retryNow
			do(how+", and it tries again", func(s *state, p *process) { fail(s, p); p.tries++; again(s, p) })
		}
	}
	unknown("the request is lost", func(*state, *process) {})
	unknown("the answer is lost", func(s *state, p *process) {
		if answer, ok := m.ask(s, p); ok {
			s.family(p.from).orphan(answer)
		}
	})
	if s.maySend(p) {
		unknown("the connection breaks, and the request is on its way", (*state).send)
	}
}

// noAnswer is the function of that name in spend.go, unless the provider has refused.
func (p *process) noAnswer(unknown bool) {
	p.pc = unlock
	if unknown = unknown || p.interrupted; p.pending.login != 0 {
		p.pending.attempt = unknown
	} else if !unknown {
		p.pc = clearNote
	}
}

// maySend reports whether the request that p is about to make may arrive late.
func (s state) maySend(p process) bool {
	return s.left.late > 0 && s.late == 0 && p.pc == present && p.from.login == 1
}

// send puts the request of p on its way.
func (s *state) send(p *process) {
	s.left.late--
	s.late, s.noted = p.from.token, p.noted
}

// arrive lets the provider receive the request that is on its way.
func (m system) arrive(s *state) {
	f := &s.logins[0]
	if answer, ok := f.present(m.policy, s.late); ok {
		f.orphan(answer)
	}
	s.late, s.noted = 0, false
}

// ask presents the refresh token to the provider.
func (m system) ask(s *state, p *process) (token, bool) {
	f := s.family(p.from)
	paused := s.left.pauses < m.budget.pauses // Somebody has lost the lock, and cannot know.
	if f.superseded.has(p.from.token) && !paused {
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
	r.tombstone, r.interrupted = true, p.interrupted
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
