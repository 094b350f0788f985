package model

import (
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// check runs a check and logs what a reader wants to know.
func check(t *testing.T, m system) result {
	t.Helper()
	r := m.check()
	t.Logf("%d states, %d steps", r.states, r.steps)
	if r.broken != "" {
		t.Logf("%s:\n%s", r.broken, strings.Join(r.trace, "\n"))
	}
	return r
}

// Whatever the order of the steps and wherever things go wrong: no refresh token is
// presented after its successor was saved; no access token is published before its
// refresh token was saved, except in state unsaved; nobody waits or works for ever; a
// newer login is not overwritten; the provider ends the login only if it forgives
// nothing and a crash or a lost answer came between its commit and the save; and that
// is explained.
func TestNoLoginIsLost(t *testing.T) {
	for i, tt := range []struct {
		name      string
		processes int
		budget    budget
	}{
		{"two processes, crashes", 2, budget{expiries: 2, crashes: 2, lost: 1}},
		{"two processes, lost answers", 2, budget{expiries: 1, crashes: 1, lost: 3}},
		{"two processes, a failing store", 2, budget{expiries: 2, crashes: 1, failures: 3}},
		{"two processes, everything", 2, budget{expiries: 2, crashes: 1, lost: 1, failures: 1}},
		{"two processes, early refreshes", 2, budget{expiries: 1, crashes: 2, lost: 1, early: 2}},
		{"two processes, one of them paused", 2, budget{expiries: 1, crashes: 1, pauses: 1}},
		{"two processes, another login", 2, budget{expiries: 1, crashes: 1, lost: 1, failures: 1, logins: 1}},
		{"two processes, a late request", 2, budget{expiries: 2, crashes: 2, late: 1}},
		{"two processes, a frozen provider", 2, budget{expiries: 2, crashes: 1, lost: 1, frozen: 1}},
		{"two processes, a frozen provider and a failing store", 2, budget{expiries: 1, crashes: 1, failures: 2, frozen: 1}},
		{"two processes, a slow provider", 2, budget{expiries: 2, failures: 1, slow: 1}},
		{"two processes, a store that forgets", 2, budget{expiries: 2, crashes: 1, failures: 1, oblivion: 1}},
		{"two processes, a store that fails and forgets", 2, budget{expiries: 2, failures: 3, oblivion: 1}},
		{"two processes, lost answers and a late request", 2, budget{expiries: 1, crashes: 1, lost: 2, late: 1}},
		{"three processes, crashes", 3, budget{expiries: 1, crashes: 2}},
		{"three processes, everything", 3, budget{expiries: 1, crashes: 1, lost: 1}},
		{"three processes, a failing store", 3, budget{expiries: 1, crashes: 1, failures: 2}},
		{"three processes, early refreshes", 3, budget{expiries: 1, crashes: 2, early: 1}},
		{"three processes, one of them paused", 3, budget{expiries: 1, crashes: 1, pauses: 1}},
		{"three processes, a frozen provider", 3, budget{expiries: 1, crashes: 1, frozen: 1}},
		{"three processes, a store that forgets", 3, budget{expiries: 1, failures: 1, oblivion: 1}},
		{"three processes, a late request", 3, budget{expiries: 1, crashes: 2, late: 1}},
	} {
		for j, p := range []policy{keepOld, oneDeep, strict} {
			if p == strict && tt.budget.pauses > 0 {
				continue // Who has lost the lock is a second spender, whatever it does.
			}
			if p != strict && i%2 == j && !testkit.Pick(false, true) {
				continue // The two take turns.
			}
			t.Run(tt.name+"/"+p.String(), func(t *testing.T) {
				t.Parallel()
				if r := check(t, system{processes: tt.processes, policy: p, budget: tt.budget, grace: 2}); r.broken != "" {
					t.Error("a rule can be broken")
				}
			})
		}
	}
}

const (
	lost        = "the login was lost, although the provider forgives what had happened"
	unexplained = "a login was lost without an explanation"
)

// Each rule of the critical section is needed: without it something breaks.
func TestEachRuleIsNeeded(t *testing.T) {
	const (
		spent       = "a refresh token was presented after its successor had been saved"
		unsaved     = "an access token was published before its refresh token was saved"
		overwritten = "a newer login was overwritten"
		dropped     = "the refresh token that was issued last is not the one that is stored"
		forgotten   = "nobody makes up for a refresh that was interrupted"
		takenAway   = "a token was taken away that is good elsewhere"
		older       = "a refresh token was replaced by one that had been issued before it"
	)
	for _, tt := range []struct {
		name    string
		policy  policy
		without rule
		budget  budget
		want    string
	}{
		{"the lock", strict, theLock, budget{}, lost},
		{"the lock, with a provider that minds nothing", keepOld, theLock, budget{}, spent},
		// The journal alone would almost do, because it is only written in the place of
		// what was read. In state unsaved there is none.
		{"the second look", strict, theReread, budget{expiries: 2, failures: 3}, lost},
		{"the second look and the journal", strict, theReread | theJournal, budget{}, spent},
		{"the journal", strict, theJournal, budget{crashes: 1}, unexplained},
		{"save, then publish", keepOld, saveThenPublish, budget{}, unsaved},
		{"compare and swap", keepOld, compareAndSwap, budget{logins: 1}, overwritten},
		{"the lock while unsaved", strict, lockWhileUnsaved, budget{failures: 2}, lost},
		{"the wait for a late request", oneDeep, theWait, budget{expiries: 2, crashes: 1, late: 1}, lost},
		{"the wait for one's own late request", oneDeep, theWait, budget{expiries: 2, lost: 1, late: 1}, lost},
		{"a new note for each attempt", oneDeep, theNewNote, budget{expiries: 2, crashes: 2, late: 1}, lost},
		{"a new note for each attempt of one process", oneDeep, theNewNote, budget{expiries: 2, crashes: 1, lost: 1, late: 1}, lost},
		{"a note is no cause for peace of mind", oneDeep, noPeace, budget{crashes: 1, early: 1}, forgotten},
		{"a question to a provider that may be frozen", oneDeep, theQuestion, budget{expiries: 2, crashes: 1, frozen: 1}, lost},
		{"a question before one's own repetition", oneDeep, theQuestion, budget{expiries: 2, lost: 1, frozen: 1}, lost},
		{"patience with a frozen provider", strict, thePatience, budget{frozen: 1}, lost},
		{"patience with a slow provider", strict, thePatience, budget{slow: 1}, lost},
		{"patience with a slow provider that forgives once", oneDeep, thePatience, budget{slow: 1}, dropped},
		{"what is saved has been confirmed", strict, theConfirmation, budget{failures: 1, oblivion: 1}, unsaved},
		{"a token that one API rejects is used by others", keepOld, theRejected, budget{early: 1}, takenAway},
		{"the later answer stays", oneDeep, theLaterStays, budget{pauses: 1}, older},
		{"the later answer wins", oneDeep, theLaterWins, budget{pauses: 1}, dropped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := system{processes: 2, policy: tt.policy, budget: tt.budget, grace: 2}
			m.budget.expiries = max(1, m.budget.expiries)
			if r := check(t, m); r.broken != "" {
				t.Error("these faults should not be enough to break a rule")
			}
			m.without = tt.without
			if r := check(t, m); r.broken != tt.want {
				t.Errorf("without it: %q, want: %s", r.broken, tt.want)
			}
		})
	}
}

// A provider that takes long for the request of a process that has died deals with it after
// the one that makes up for it, and ends the login if it forgives nothing. That cannot be
// prevented, but whoever finds out can say so.
func TestWhatALateRequestEndsIsExplained(t *testing.T) {
	m := system{processes: 2, policy: strict, budget: budget{expiries: 2, crashes: 1, slow: 1}}
	if r := check(t, m); r.broken != "" {
		t.Errorf("got %q", r.broken)
	}
	m.without = theLateNote
	if r := check(t, m); r.broken != unexplained {
		t.Errorf("without the note: %q", r.broken)
	}
}

// What no client can prevent: a login is lost although the provider accepts the
// token before the current one.
func TestWhatCannotBePrevented(t *testing.T) {
	for _, tt := range []struct {
		name string
		m    system
	}{
		// It does not know that others have refreshed meanwhile, and the provider takes its
		// request for the newest one. Only a store whose locks are leases can do that.
		{"a process that is paused for longer than the lease of its lock",
			system{policy: oneDeep, grace: 2, budget: budget{expiries: 2, pauses: 1}}},
		// The provider answers questions, so that nothing tells that it still works on the
		// request of the process that has died.
		{"a provider that takes long for one request, and a crash meanwhile",
			system{policy: oneDeep, grace: 2, budget: budget{expiries: 2, crashes: 1, slow: 1}}},
		{"a store that fails through two rotations, and then a crash",
			system{policy: oneDeep, grace: 3, budget: budget{expiries: 2, crashes: 1, failures: 3}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.m.processes = 2
			if r := check(t, tt.m); r.broken != lost {
				t.Errorf("got %q", r.broken)
			}
		})
	}
}
