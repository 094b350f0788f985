package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// An end is the end of a login.
type end struct {
	cause   cause
	what    string // has happened, or the user was told
	account string
}

// A cause is why a spent refresh token was presented again.
type cause string

const (
	byKill  cause = "killed"  // the replica that had spent it was killed before it had saved what it got
	byCut   cause = "cut off" // or was cut off from the store for more than three seconds
	unclear cause = "unclear"

	// The store has lost what it had confirmed: what came of it; the note that it is being spent,
	// and the lock with it; or, where there is another one on another server, the lock alone.
	byToken cause = "token forgotten"
	byNote  cause = "note forgotten"
	byLock  cause = "lock forgotten"

	// What a user was told: that a login has ended, for one of these reasons, or for the first time
	// since the store has failed after the last login, which it may have lost.
	told    cause = "told"
	byLogin cause = "told, perhaps as the login was forgotten"
)

func (c cause) forgotten() bool { return c == byToken || c == byNote || c == byLock }

// cutOffTime is how long a replica may be cut off before others take its locks.
const cutOffTime = 3 * time.Second

// reused is told that a spent refresh token was presented again, and that the provider has ended
// the login.
func (c *campaign) reused(s, again spending) {
	l := c.swarm.ledger
	e := end{cause: unclear, what: fmt.Sprintf("replica %d has presented what replica %d had presented %v before",
		again.by, s.by, again.presented.Sub(s.presented).Round(10*time.Millisecond))}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.next != nil && l.wasSaved(s.next, again.presented):
		e.cause = byToken
	case l.wasKilled(s.by), l.wasKilled(again.by): // Its request may come last.
		e.cause = byKill
	case c.absence(s.by, s.presented, again.presented) > cutOffTime:
		e.cause = byCut
	case again.found != s.process:
		e.cause = byNote
	case c.apart && c.failed(s.presented, again.presented, ""), c.forgets && c.failed(s.presented, again.presented, freezes):
		e.cause = byLock
	}
	c.ends = append(c.ends, e)
}

// freezes is what a primary does that goes on while there is another one: then there are two locks.
const freezes = "freezes"

// failed reports whether the store has failed at the time, or just before, in this way or in any.
// c.mu is held.
func (c *campaign) failed(from, to time.Time, how string) bool {
	for _, f := range c.failures {
		if strings.Contains(f.what, how) && f.begin.Before(to) && (f.over.IsZero() || f.over.Add(cutOffTime).After(from)) {
			return true
		}
	}
	return false
}

// absence returns for how long a replica was cut off. c.mu is held.
func (c *campaign) absence(replica int, from, to time.Time) (longest time.Duration) {
	for _, a := range c.away[replica] {
		if a.to.IsZero() || a.to.After(to) {
			a.to = to
		}
		if a.from.Before(from) {
			a.from = from
		}
		longest = max(longest, a.to.Sub(a.from))
	}
	return longest
}

// cutOff says that from now on a replica is cut off from the store, and back that it is not.
func (c *campaign) cutOff(replica int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away[replica] = append(c.away[replica], absent{from: time.Now()})
}

func (c *campaign) back() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, all := range c.away {
		if last := &all[len(all)-1]; last.to.IsZero() {
			last.to = time.Now()
		}
	}
}

// check compares what was lost with what may be lost.
func (c *campaign) check(t *testing.T, p *proof) {
	n, forgotten := c.counted(), make(map[string]int)
	for _, e := range c.ends {
		if e.cause == byLogin {
			if forgotten[e.account]++; forgotten[e.account] > len(c.failures) {
				t.Errorf("%s has lost more logins than there were failures", e.account)
			}
		}
		switch wasTold := e.account != ""; {
		case wasTold:
			t.Logf("%s was told: %s (%s)", e.account, e.what, e.cause)
			if !c.explains(e.what) {
				t.Errorf("a user is not told why the login has ended: %s", e.what)
			}
		case e.cause == unclear, e.cause.forgotten() && !c.forgets:
			t.Errorf("a refresh token was presented again: %s", e.what)
		default:
			t.Logf("%s: %s", e.cause, e.what)
		}
	}
	if reuses := len(c.ends) - n[told] - n[byLogin]; reuses != p.Reuses {
		t.Errorf("%d reuses, and causes for %d", p.Reuses, reuses)
	}
	if n[told] > p.Reuses {
		t.Errorf("%d users were told to log in, after %d reuses", n[told], p.Reuses)
	}
	if p.good > 0 {
		t.Errorf("%d requests failed though there was a token that was good", p.good)
	}
	if p.Rotations == 0 {
		t.Error("no token was refreshed: nothing is proved")
	}
}

// explains reports whether the text says why a login has ended.
func (c *campaign) explains(text string) bool {
	return strings.Contains(text, "interrupted") ||
		c.forgets && (strings.Contains(text, "failover") || strings.Contains(text, "the store had lost this login")) ||
		// A replica that was cut off with the newest token learns only that another one was refused.
		len(c.away) > 0 && strings.Contains(text, "the login was revoked")
}

func (c *campaign) counted() map[cause]int {
	n := make(map[cause]int)
	for _, e := range c.ends {
		n[e.cause]++
	}
	return n
}

// What the ledger has seen tells the causes apart.
func TestCausesOfReuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(c *campaign, s, again *spending)
		want   cause
	}{
		{"nothing has happened", func(c *campaign, s, again *spending) {}, unclear},
		{"the first was killed", func(c *campaign, s, again *spending) { c.swarm.ledger.kills(s.by) }, byKill},
		{"the second was killed", func(c *campaign, s, again *spending) { c.swarm.ledger.kills(again.by) }, byKill},
		{"another was killed", func(c *campaign, s, again *spending) { c.swarm.ledger.kills(3) }, unclear},
		{"the first was cut off", func(c *campaign, s, again *spending) {
			c.away[s.by] = []absent{{from: s.presented.Add(-time.Minute), to: s.presented.Add(4 * time.Second)}}
		}, byCut},
		{"the first was cut off for a moment", func(c *campaign, s, again *spending) {
			c.away[s.by] = []absent{{from: s.presented.Add(-time.Minute), to: s.presented.Add(2 * time.Second)}}
		}, unclear},
		{"the answer was saved", func(c *campaign, s, again *spending) { s.next = &spending{saved: again.presented.Add(-1)} }, byToken},
		{"the answer was saved later", func(c *campaign, s, again *spending) { s.next = &spending{saved: again.presented.Add(1)} }, unclear},
		{"the answer was not saved", func(c *campaign, s, again *spending) { s.next = &spending{} }, unclear},
		{"the note was not found", func(c *campaign, s, again *spending) { again.found = "" }, byNote},
		{"the note of another was found", func(c *campaign, s, again *spending) { again.found = "3" }, byNote},
		{"a failover, with lock and note together", func(c *campaign, s, again *spending) {
			c.failures = []failed{{begin: s.presented.Add(time.Second)}}
		}, unclear},
		{"a failover, with lock and note apart", func(c *campaign, s, again *spending) {
			c.apart, c.failures = true, []failed{{begin: s.presented.Add(time.Second)}}
		}, byLock},
		{"two primaries at the same time", func(c *campaign, s, again *spending) {
			c.forgets, c.failures = true, []failed{{what: "the primary freezes", begin: s.presented.Add(-time.Second)}}
		}, byLock},
		{"a crash, with lock and note together", func(c *campaign, s, again *spending) {
			c.forgets, c.failures = true, []failed{{what: "the primary crashes", begin: s.presented.Add(-time.Second)}}
		}, unclear},
		{"a failover later", func(c *campaign, s, again *spending) {
			c.apart, c.failures = true, []failed{{begin: again.presented.Add(time.Second)}}
		}, unclear},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &campaign{swarm: &swarm{ledger: newLedger(nil)}, away: make(map[int][]absent)}
			first := spending{presented: time.Now(), by: 1, sender: sender{process: "1"}}
			again := spending{presented: first.presented.Add(5 * time.Second), by: 2, sender: sender{process: "2", found: "1"}}
			tt.change(c, &first, &again)
			c.reused(first, again)
			if len(c.ends) != 1 || c.ends[0].cause != tt.want {
				t.Errorf("got %+v, want %q", c.ends, tt.want)
			}
		})
	}
}
