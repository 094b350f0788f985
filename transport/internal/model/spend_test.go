package model

// present is step 6 of refresh, and what noAnswer and retryNow make of its outcome.
func (m system) present(s state, p process, i int8, do func(string, func(*state, *process))) {
	do("presents its refresh token", func(s *state, p *process) {
		answer, ok := m.ask(s, p)
		m.answered(s, p, answer, ok)
	})
	if s.late == 0 && p.from.login == 1 {
		if s.left.frozen > 0 {
			do("presents its refresh token to a frozen provider", func(s *state, p *process) {
				s.left.frozen--
				m.await(s, p, i, frozen)
			})
		}
		if s.left.slow > 0 {
			do("presents its refresh token, and the provider takes its time", func(s *state, p *process) {
				s.left.slow--
				m.await(s, p, i, slow)
			})
		}
	}
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

// answered handles the answer to a refresh token. A request that is on its way will have
// arrived when Record.InterruptedAt is too old to say anything.
func (m system) answered(s *state, p *process, answer token, ok bool) {
	if p.noted = false; !ok {
		p.pc = reload
		return
	}
	p.next = record{login: p.from.login, generation: p.from.generation + 1, token: answer,
		late: (p.interrupted || p.from.late && s.late != 0) && !m.lacks(theLateNote)}
	if p.pc, p.tries = save, 0; m.lacks(saveThenPublish) {
		p.pc = publish
	}
}

// await sends a request that takes long, and waits for the answer.
func (m system) await(s *state, p *process, i int8, pace pace) {
	m.mayBeSpent(s, p)
	s.late, s.noted, s.pace, s.sender, p.pc = p.from.token, p.noted, pace, i, waiting
}

// wait is what may end the wait for an answer, other than that.
func (m system) wait(s state, do func(string, func(*state, *process))) {
	end := func(s *state, p *process) {
		s.sender, p.noted = 0, false
		p.noAnswer(true)
	}
	if s.left.lost > 0 {
		do("waits, and the connection breaks", func(s *state, p *process) { s.left.lost--; end(s, p) })
		do("waits, and the connection breaks, and it tries again", func(s *state, p *process) { s.left.lost--; end(s, p); again(s, p) })
	}
	if m.lacks(thePatience) {
		do("gives up waiting, and tries again", func(s *state, p *process) { end(s, p); s.givenUp = true; again(s, p) })
	}
}

// noAnswer is the function of that name in source_refresh.go, unless the provider has refused.
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
	s.late, s.noted, s.pace = p.from.token, p.noted, soon
}

// arrive lets the provider deal with the request that is on its way. A sender that still
// waits gets the answer.
func (m system) arrive(s *state) {
	f := &s.logins[0]
	answer, ok := m.presented(s, f, s.late)
	switch {
	case s.sender != 0:
		m.answered(s, &s.processes[s.sender-1], answer, ok)
	case ok && !s.givenUp:
		f.orphan(answer)
	}
	s.late, s.noted, s.pace, s.sender, s.givenUp = 0, false, soon, 0, false
}

// ask presents the refresh token to the provider.
func (m system) ask(s *state, p *process) (token, bool) {
	m.mayBeSpent(s, p)
	return m.presented(s, s.family(p.from), p.from.token)
}

// mayBeSpent checks that nobody knows better than to present the refresh token.
func (m system) mayBeSpent(s *state, p *process) {
	paused := s.left.pauses < m.budget.pauses // Somebody has lost the lock, and cannot know.
	if s.family(p.from).superseded.has(p.from.token) && !paused {
		s.broken = "a refresh token was presented after its successor had been saved"
	}
}

// presented is what the provider makes of a refresh token.
func (m system) presented(s *state, f *family, t token) (token, bool) {
	gone := f.revoked // and this is not what ended it
	answer, ok := f.present(m.policy, t)
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
		return min(1, m.grace)
	case oneDeep:
		return m.grace
	}
	return 127
}

// tombstone returns the record that says that the refresh token is dead.
func (p *process) tombstone() record {
	r := p.from
	r.tombstone, r.interrupted = true, p.interrupted || r.late
	return r
}

// die ends noAnswer after a refusal.
func (s *state) die(p *process, tomb record) {
	f := s.family(tomb)
	if f.explained = f.explained || tomb.interrupted; !f.explained && !f.unsaved {
		s.broken = "a login was lost without an explanation"
	}
	p.settled()
	p.dead, p.pc = tomb, unlock
}
