package model

import (
	"fmt"
	"hash/maphash"
	"slices"
)

// outside calls emit for each step that is not taken by a process: what goes wrong
// around them.
func (m system) outside(s state, emit func(who int8, what string, s state)) {
	if s.left.expiries > 0 {
		after := s
		after.left.expiries--
		for i := range after.logins {
			after.logins[i].expired = after.logins[i].issued
		}
		if after.logins != s.logins {
			emit(0, "the access tokens expire", after)
		}
	}
	if s.left.oblivion > 0 && s.behind.login != 0 {
		after := s
		after.left.oblivion--
		after.store, after.behind = s.behind, record{}
		emit(0, "the store forgets what it has not confirmed", after)
	}
	if s.left.logins > 0 && s.store.login == 1 {
		after := s
		after.left.logins--
		after.login(2)
		emit(0, "somebody logs in anew, without taking the lock", after)
	}
	for i := range m.processes {
		p := s.processes[i]
		if s.left.pauses > 0 && p.holds && (p.pc == present || p.pc == save || p.pc == resolve) {
			after := s
			after.left.pauses--
			after.holder, after.processes[i].holds = 0, false
			emit(int8(i+1), "is paused for so long that it loses the lock", after)
		}
		if s.left.crashes == 0 || p == (process{}) {
			continue
		}
		after := s
		after.left.crashes--
		for _, r := range []record{p.next, p.pending} {
			if r.login != 0 && !after.family(r).saved.has(r.token) {
				after.family(r).orphan(r.token)
			}
		}
		if p.pending.login != 0 {
			after.family(p.pending).unsaved = true
		}
		if p.holds {
			after.holder = 0
		}
		if p.pc == waiting {
			after.sender = 0
		}
		after.processes[i] = process{}
		emit(int8(i+1), "dies", after)
		if s.maySend(p) {
			after.send(&p)
			emit(int8(i+1), "dies, and its request is on the way", after)
		}
	}
}

// A step leads to a state.
type step struct {
	from  int32
	who   int8 // a process, from 1; 0: none
	what  string
	order order
}

// An order says where each process was before the processes were put in order.
type order [maxProcesses]int8

// seed makes the order of processes, which does not matter, the same for one program.
var seed = maphash.MakeSeed()

// sorted puts the processes of s in order: they are all alike, so states that differ in
// their order alone are one.
func (m system) sorted(s state) (state, order) {
	var keys [maxProcesses]uint64
	o := order{0, 1, 2}
	for i := range m.processes {
		keys[i] = maphash.Comparable(seed, s.processes[i])
	}
	for i := range m.processes {
		for j := i; j > 0 && keys[o[j]] < keys[o[j-1]]; j-- {
			o[j], o[j-1] = o[j-1], o[j]
		}
	}
	after := s
	for i := range m.processes {
		after.processes[i] = s.processes[o[i]]
		if s.holder == o[i]+1 {
			after.holder = int8(i + 1)
		}
		if s.sender == o[i]+1 {
			after.sender = int8(i + 1)
		}
	}
	return after, o
}

// A result is what check has found.
type result struct {
	states, steps int
	broken        string   // the rule that can be broken
	trace         []string // how
}

// check visits every state that the system can reach, breadth first, so that a
// counterexample is as short as there is one.
func (m system) check() (r result) {
	start, _ := m.sorted(m.start())
	index := map[state]int32{start: 0}
	states, how := []state{start}, []step{{from: -1}}
	var edges [][2]int32 // of the processes
	for at := int32(0); int(at) < len(states); at++ {
		s := states[at]
		found := false
		visit := func(who int8, what string, after state) int32 {
			r.steps++
			after, order := m.sorted(after)
			i, known := index[after]
			if !known {
				i = int32(len(states))
				index[after] = i
				states, how = append(states, after), append(how, step{at, who, what, order})
				if after.broken != "" && !found {
					found = true
					r.broken, r.trace = after.broken, trace(states, how, i)
				}
			}
			return i
		}
		enabled := false
		for i := range m.processes {
			m.next(s, i, func(what string, after state) {
				enabled = true
				edges = append(edges, [2]int32{at, visit(int8(i+1), what, after)})
			})
		}
		if s.late != 0 {
			enabled = true // It will certainly be.
			after := s
			m.arrive(&after)
			edges = append(edges, [2]int32{at, visit(0, "the provider receives the request that was on its way", after)})
		}
		m.outside(s, func(who int8, what string, after state) { visit(who, what, after) })
		if !enabled {
			if why := m.unrest(s); why != "" {
				found = true
				r.broken, r.trace = why, trace(states, how, at)
			}
			edges = append(edges, [2]int32{at, -1})
		}
		if found {
			break
		}
	}
	r.states = len(states)
	if r.broken == "" {
		if at := cannotRest(len(states), edges); at >= 0 {
			r.broken, r.trace = "the processes work for ever", trace(states, how, at)
		}
	}
	return r
}

// unrest returns what is wrong when no process has anything left to do. Each must have
// a token that is good, or know why it cannot have one; and unless an answer was lost,
// what is stored must be what the provider has issued last.
func (m system) unrest(s state) string {
	for _, p := range s.processes[:m.processes] {
		if p.pc != idle || p.holds || p.pending.login != 0 || !m.fresh(&s, p.cur) && p.dead.login == 0 {
			return "nobody can go on"
		}
		if p.cur.attempt {
			return "nobody makes up for a refresh that was interrupted"
		}
	}
	f := s.family(s.store)
	switch {
	case s.holder != 0:
		return "nobody can go on"
	case f.orphaned == 0 && s.store.token != f.current:
		return "the refresh token that was issued last is not the one that is stored"
	}
	return ""
}

// cannotRest returns a state from which the processes cannot come to rest by
// themselves, or -1. An edge to -1 leads to rest.
func cannotRest(states int, edges [][2]int32) int32 {
	into := make([][]int32, states)
	rests := make([]bool, states)
	var todo []int32
	for _, e := range edges {
		if e[1] >= 0 {
			into[e[1]] = append(into[e[1]], e[0])
		} else {
			rests[e[0]] = true
			todo = append(todo, e[0])
		}
	}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, from := range into[at] {
			if !rests[from] {
				rests[from] = true
				todo = append(todo, from)
			}
		}
	}
	for i, ok := range rests {
		if !ok {
			return int32(i)
		}
	}
	return -1
}

// trace tells how a state is reached.
func trace(states []state, how []step, at int32) (lines []string) {
	var path []int32
	for ; how[at].from >= 0; at = how[at].from {
		path = append(path, at)
	}
	names := [...]string{"A", "B", "C"} // of the processes, in their order
	for _, at := range slices.Backward(path) {
		who := " "
		if n := how[at].who; n > 0 {
			who = names[n-1]
		}
		lines = append(lines, fmt.Sprintf("%s %-72s stored: %v", who, how[at].what, states[at].store))
		before := names
		for i, j := range how[at].order {
			names[i] = before[j]
		}
	}
	return lines
}
