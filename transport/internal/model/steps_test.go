package model

// A system is what is checked: so many processes, a provider, and what may go wrong.
type system struct {
	processes int
	policy    policy
	budget    budget
	without   rule

	// grace is the number of rotations in a row that have to be lost for a one-deep
	// grace to fail. It is 2, unless a test looks for how that happens.
	grace int8
}

// A rule is something that the critical section does to keep a login alive, and
// that can be left out to see what happens.
type rule int8

const (
	nothing          rule = iota
	theLock               // steps 1 and 9
	theReread             // step 2: what look read is spent instead
	theJournal            // step 5
	saveThenPublish       // steps 7 and 8 change places
	compareAndSwap        // step 7 replaces whatever is there
	lockWhileUnsaved      // the lock is released although the rotation is not saved
)

const (
	promptRetries = 1 // 2 in transport; enough to have one
	saveTries     = 2 // 3 in transport
	maxRounds     = 3 // of the loop in refresh
)

func (m system) start() state {
	s := state{left: m.budget}
	s.login(1)
	return s
}

// login stores the tokens of a new login.
func (s *state) login(n int8) {
	s.logins[n-1] = family{issued: 1, current: 1}
	s.write(record{login: n, generation: 1, token: 1})
}

// next calls emit for each step that process i can take in s. There is more than
// one if the world can do its part in more than one way.
func (m system) next(s state, i int, emit func(what string, s state)) {
	do := func(what string, f func(s *state, p *process)) {
		after := s
		f(&after, &after.processes[i])
		emit(what, after)
	}
	// fails adds what happens if the store fails.
	fails := func(what string, f func(s *state, p *process)) {
		if s.left.failures > 0 {
			do(what, func(s *state, p *process) { s.left.failures--; f(s, p) })
		}
	}
	end := func(_ *state, p *process) { p.pc = unlock }
	again := func(_ *state, p *process) { // the loop of refresh
		if p.pc = load; p.pending.login != 0 {
			p.pc = settle
		}
	}
	p := s.processes[i]
	switch p.pc {
	case idle:
		if p.pending.login != 0 {
			fails("the saver fails", func(*state, *process) {})
			do("the saver saves", func(s *state, p *process) {
				if m.savePending(s, p); p.pending.login == 0 {
					s.release(p)
				}
			})
		}
		dead := p.dead.login != 0 && p.dead.login == s.store.login && p.dead.token == s.store.token && s.store.tombstone
		if !s.fresh(p.cur) && !dead {
			do("needs a token", func(_ *state, p *process) { p.pc = look })
		}
	case look:
		fails("cannot read the cache", func(_ *state, p *process) { p.rest() })
		do("looks into the cache", m.look)
	case lock:
		if m.without == theLock || p.holds {
			do("needs no lock", again)
		} else if s.holder == 0 {
			do("locks", func(s *state, p *process) {
				s.holder, p.holds = int8(i+1), true
				again(s, p)
			})
		}
	case settle:
		fails("cannot save what is pending", func(_ *state, p *process) { p.pc = load })
		do("saves what is pending", func(s *state, p *process) {
			if m.savePending(s, p); p.pending.login == 0 {
				p.pc = load
			}
		})
	case load:
		fails("cannot read the cache", end)
		do("reads the cache again", m.load)
	case journal:
		fails("cannot write the journal", end)
		fails("writes the journal, and is told that it failed", func(s *state, p *process) { s.note(p); p.pc = unlock })
		do("writes the journal", func(s *state, p *process) {
			if p.pc = present; !s.note(p) {
				again(s, p)
			}
		})
	case present:
		m.present(&s, &p, do)
	case save:
		fails("cannot save", notSaved)
		fails("saves, and is told that it failed", func(s *state, p *process) {
			m.swap(s, p.version, p.next)
			notSaved(s, p)
		})
		do("saves", func(s *state, p *process) {
			if p.pc = resolve; m.swap(s, p.version, p.next) {
				m.saved(s, p)
			}
		})
	case resolve:
		fails("cannot read what is in the way", notSaved)
		do("reads what is in the way", func(s *state, p *process) {
			if p.version, p.pc = s.store, save; s.wins(p.next) {
				p.next = s.store
				m.saved(s, p)
			}
		})
	case publish:
		do("publishes the access token", func(s *state, p *process) {
			if !s.family(p.next).saved.has(p.next.token) && p.pending.login == 0 {
				s.broken = "an access token was published before its refresh token was saved"
			}
			p.cur, p.dead, p.pc = p.next, record{}, unlock
			if m.without == saveThenPublish && s.store != p.next {
				p.pc = save
			}
		})
	case unlock:
		do("ends the flight", func(s *state, p *process) {
			if p.pending.login == 0 || m.without == lockWhileUnsaved {
				s.release(p)
			}
			p.rest()
		})
	case clearNote:
		fails("cannot clear the journal", end)
		do("clears the journal", func(s *state, p *process) {
			m.swap(s, p.version, p.from)
			p.pc = unlock
		})
	case reload:
		fails("cannot read the cache", func(s *state, p *process) { s.die(p, p.tombstone()) })
		do("reads the cache after the refusal", func(s *state, p *process) {
			r, version := s.newest(p)
			if p.version, p.pc = version, buryIt; r.login != p.from.login || r.token != p.from.token {
				again(s, p)
			}
		})
	case buryIt:
		fails("cannot save the tombstone", func(s *state, p *process) { s.die(p, p.tombstone()) })
		do("saves the tombstone", func(s *state, p *process) {
			if again(s, p); m.swap(s, p.version, p.tombstone()) {
				s.die(p, p.tombstone())
			}
		})
	}
}

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

func (s *state) release(p *process) {
	if p.holds {
		s.holder, p.holds = 0, false
	}
}
