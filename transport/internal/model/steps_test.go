package model

// A system is what is checked: so many processes, a provider, and what may go wrong.
type system struct {
	processes int
	policy    policy
	budget    budget
	without   rule

	// grace is the number of rotations in a row that have to be lost for a one-deep
	// grace to fail. It is 2, unless a test looks for how that happens. If it is 0, logins
	// may be lost, but not without an explanation.
	grace int8
}

// A rule is something that the critical section does to keep a login alive, and
// that can be left out to see what happens. Rules can be added up.
type rule uint16

const (
	theLock          rule = 1 << iota // steps 1 and 9
	theReread                         // step 2: what look read is spent instead
	theJournal                        // step 5
	saveThenPublish                   // steps 7 and 8 change places
	compareAndSwap                    // step 7 replaces whatever is there
	lockWhileUnsaved                  // the lock is released although the rotation is not saved
	theWait                           // what a process that is gone has sent may still be on its way
	theNewNote                        // the journal stays as the first attempt has left it
	theLaterStays                     // a late save replaces what was issued after it
	theLaterWins                      // a late save does not replace what was issued before it
	noPeace                           // the token of a record with a note is good until it expires
	theQuestion                       // a second after a request was lost its token is presented again, also if the provider is frozen
	thePatience                       // an answer that takes long is not waited for
	theConfirmation                   // to find in the store what a Save has failed to save is as good as to save it
	theLateNote                       // what was sent with a note is forgotten when another refresh has made up for it
	theRejected                       // a token that one API rejects is used nowhere any more
)

const (
	promptRetries = 1 // 2 in transport; enough to have one
	saveTries     = 2 // 3 in transport
	maxRounds     = 3 // of the loop in refresh
)

func (m system) lacks(r rule) bool { return m.without&r != 0 }

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
		if cur := s.processes[i].cur; m.fresh(&s, cur) && after.processes[i].cur.login == 0 {
			after.broken = "a token was taken away that is good elsewhere"
		}
		emit(what, after)
	}
	// fails adds what happens if the store fails.
	fails := func(what string, f func(s *state, p *process)) {
		if s.left.failures > 0 {
			do(what, func(s *state, p *process) { s.left.failures--; f(s, p) })
		}
	}
	end := func(_ *state, p *process) { p.pc = unlock }
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
		if s.left.early > 0 && m.fresh(&s, p.cur) {
			do("wants a new token before the others do", func(s *state, p *process) {
				if s.left.early, p.pc = s.left.early-1, look; m.lacks(theRejected) {
					p.cur = record{}
				}
			})
		}
		dead := p.dead.login != 0 && p.dead.login == s.store.login && p.dead.token == s.store.token && s.store.tombstone
		if !m.fresh(&s, p.cur) && !dead {
			do("needs a token", func(_ *state, p *process) { p.pc = look })
		}
	case look:
		fails("cannot read the cache", func(_ *state, p *process) { p.rest() })
		do("looks into the cache", m.look)
	case lock:
		if !p.holds && s.store != p.seen { // Cache.LockAt
			do("sees that the cache holds something else by now", func(_ *state, p *process) { p.pc = look })
		}
		if m.lacks(theLock) || p.holds {
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
	case await:
		if m.mayPresent(&s, &p) {
			do("has waited for requests that are on their way, and the provider answers", m.prepare)
		}
	case journal:
		fails("cannot write the journal", end)
		fails("writes the journal, and is told that it failed", func(s *state, p *process) { m.note(s, p, false); p.pc = unlock })
		do("writes the journal", func(s *state, p *process) {
			if p.pc = present; !m.note(s, p, true) {
				again(s, p)
			}
		})
	case present:
		m.present(s, p, int8(i+1), do)
	case waiting:
		m.wait(s, do)
	case save:
		fails("cannot save", notSaved)
		fails("saves, and is told that it failed", func(s *state, p *process) {
			m.replace(s, p.version, p.next, false)
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
			if p.version, p.pc = s.store, save; m.wins(s, p.next) {
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
			if m.lacks(saveThenPublish) && s.store != p.next {
				p.pc = save
			}
		})
	case unlock:
		do("ends the flight", func(s *state, p *process) {
			if p.pending.login == 0 || m.lacks(lockWhileUnsaved) {
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
