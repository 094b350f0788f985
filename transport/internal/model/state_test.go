package model

import "fmt"

const (
	maxProcesses = 3
	maxTokens    = 12
)

// A token stands for a refresh token and the access token that came with it. They
// are numbered as the provider issues them; 1 is what the login brought.
type token int8

// A tokens is a set of them.
type tokens uint16

func (s tokens) has(t token) bool { return s&(1<<t) != 0 }
func (s *tokens) add(t token)     { *s |= 1 << t }

// A record is a tokencache.Record. Its contents serve as its version too: no two
// states of an entry are the same bytes, because each is sealed with a nonce.
type record struct {
	login       int8 // Record.LoginID: 1, or 2 after somebody has logged in anew
	generation  int8
	token       token
	attempt     bool // the journal
	late        bool // Record.InterruptedAt
	tombstone   bool
	interrupted bool // Tombstone.Interrupted
}

// newer is the function of that name in source_entry.go.
func newer(a, b record) bool {
	if a.login != b.login {
		return a.login > b.login
	}
	return a.generation > b.generation
}

// A family is what the provider knows of one login, and what the checker knows
// besides.
type family struct {
	issued            token
	parent            [maxTokens]token
	spent             tokens
	current, previous token
	revoked           bool
	expired           token // access tokens up to this one have expired

	saved      tokens // ever stored durably
	superseded tokens // a successor was stored durably
	unsaved    bool   // somebody died in state unsaved, when the journal could not be written
	explained  bool   // somebody was told that the login was lost after an interruption
	orphaned   int8   // the longest chain of successors that crashes or lost answers have left unsaved
}

// A policy is what a provider does with a refresh token that is presented again.
type policy int8

const (
	keepOld policy = iota // nothing: all stay good
	oneDeep               // the one before the current one is accepted, any older one ends the login
	strict                // it ends the login
)

func (p policy) String() string { return [...]string{"keep-old", "one-deep grace", "strict"}[p] }

// present is the provider's side of a refresh.
func (f *family) present(p policy, t token) (answer token, ok bool) {
	switch {
	case f.revoked:
		return 0, false
	case p == oneDeep && t != f.current && t != f.previous, p == strict && f.spent.has(t):
		f.revoked = true
		return 0, false
	}
	if t == f.current {
		f.previous = t
	}
	f.spent.add(t)
	f.issued++
	if f.issued == maxTokens {
		panic("more tokens than the model has room for")
	}
	f.current, f.parent[f.issued] = f.issued, t
	return f.issued, true
}

// depth returns how many rotations lie between t and its last stored ancestor.
func (f *family) depth(t token) (n int8) {
	for ; !f.saved.has(t); t = f.parent[t] {
		n++
	}
	return n
}

// orphan notes that nobody knows t any more.
func (f *family) orphan(t token) { f.orphaned = max(f.orphaned, f.depth(t)) }

// A pc is the next step of a process. The names are those of functions in
// source_entry.go, source_refresh.go, source_successor.go, entry/save.go and source_flight.go.
type pc int8

const (
	idle      pc = iota // Source.token: is there a reason to start a flight?
	look                // look: read the cache without the lock
	lock                // step 1 of refresh
	settle              // the beginning of the loop of refresh, in state unsaved
	load                // steps 2 and 3
	await               // awaitLostRequest
	journal             // steps 4 and 5: prepare
	present             // step 6: Refresher.Refresh
	waiting             // Endpoint.wait, for an answer that takes long
	save                // step 7: save, trySave
	resolve             // trySave, after a conflict
	publish             // step 8
	unlock              // step 9
	clearNote           // noAnswer, when the token was not spent for certain
	reload              // noAnswer, after invalid_grant
	buryIt              // noAnswer: save the tombstone
)

// A process is a Source. The zero process has just been started.
type process struct {
	pc   pc
	cur  record // Source.cur: what was published last; login is 0 if there is none
	dead record // Source.refused, and with it Source.dead

	pending     record // Source.pending.rec; login is 0 if there is none
	replaces    record // Source.pending.version
	holds       bool   // the lock of the login
	seen        record // what look read
	from        record // the record to be spent
	version     record // what is to be replaced
	next        record // the answer
	interrupted bool   // as in refresh
	noted       bool   // the journal was written, and nothing presented since
	tries       int8
	rounds      int8
}

// rest forgets what a process does not need between two flights.
func (p *process) rest() {
	*p = process{cur: p.cur, dead: p.dead, pending: p.pending, replaces: p.replaces, holds: p.holds}
}

// A budget bounds what goes wrong in one run.
type budget struct {
	expiries int8 // times that the access tokens expire
	early    int8 // refreshes of a token that the other processes think good for longer
	crashes  int8
	lost     int8 // requests and answers that do not arrive
	failures int8 // of the store
	logins   int8 // by somebody who takes no lock
	late     int8 // requests that arrive after their sender has died, or has given them up
	pauses   int8 // of a process, for longer than the lease of its lock
	frozen   int8 // requests that a provider which is frozen deals with when it goes on
	slow     int8 // requests that a provider takes long for, although it answers others
	oblivion int8 // times that the store forgets what it had written and not confirmed
}

// A pace is how long a request takes that is on its way.
type pace int8

const (
	soon   pace = iota // no longer than lostRequestTime
	frozen             // as long as the provider answers nothing else either
	slow
)

// A state is everything.
type state struct {
	store     record
	behind    record // what the store goes back to if it forgets; login is 0 if it does not
	holder    int8   // of the lock: 1 and up, or 0
	logins    [2]family
	processes [maxProcesses]process
	left      budget
	late      token  // of the first login, on its way to the provider, or being worked on
	pace      pace   // of that request
	sender    int8   // of that request, who waits for the answer, 1 and up; 0: nobody does
	givenUp   bool   // by choice
	noted     bool   // the stored journal is not older than that request
	broken    string // the rule that was broken by the last step
}

func (s *state) family(r record) *family { return &s.logins[r.login-1] }

// fresh is snapshot.fresh.
func (m system) fresh(s *state, r record) bool {
	return r.login != 0 && r.token > s.family(r).expired && (!r.attempt || m.lacks(noPeace))
}

// write stores r, durably.
func (s *state) write(r record) {
	if s.store.login > r.login {
		s.broken = "a newer login was overwritten"
	}
	if s.store.login == r.login && s.store.generation == r.generation && s.store.token > r.token {
		s.broken = "a refresh token was replaced by one that had been issued before it"
	}
	s.store, s.behind = r, record{}
	f := s.family(r)
	f.saved.add(r.token)
	f.superseded.add(f.parent[r.token])
}

func (r record) String() string {
	if r.login == 0 {
		return "nothing"
	}
	s := fmt.Sprintf("login %d generation %d RT%d", r.login, r.generation, r.token)
	if r.attempt {
		s += " attempt"
	}
	if r.tombstone {
		s += " tombstone"
	}
	return s
}
