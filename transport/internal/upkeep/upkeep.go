// Package upkeep decides when the logins that nobody uses are renewed, so that no refresh token
// dies of disuse.
//
// Each login has a time of its own, which follows from its name: with a period of a day, a time
// of the day. Whatever happens to many logins at once (they were made within a minute, an outage
// is over, a process starts), their renewals are spread over a whole period, as evenly as
// chance does it, and all processes that share a store agree on the times without a word. A
// time that was missed is not made up for, because all others that were missed with it would be
// made up for then too: the next one comes, and a period is a quarter of what the provider
// allows at most.
package upkeep

import (
	"hash/fnv"
	"time"
)

// Period returns how often logins are renewed by default: at least four times in the time after
// which the provider ends an unused one, and eight times in the time after which it ends any, so
// that its end can be announced. Zero means that there is no such time.
func Period(idleTime, lifetime time.Duration) time.Duration {
	p := 24 * time.Hour
	if idleTime > 0 {
		p = min(p, idleTime/4)
	}
	if lifetime > 0 {
		p = min(p, lifetime/8)
	}
	return p
}

// A Round says which logins are renewed, and how soon: those that were not renewed for Idle, each
// at its next time in a period of Every.
type Round struct{ Idle, Every time.Duration }

// Rounds returns what a pass looks for: the logins that are due, and those that are in danger,
// because there was an outage of days. idleTime is when the provider ends a login, or 0.
//
// A login is due a little early, so that one that was renewed a little late yesterday does not
// miss its time today. No earlier than that: each pass of each process lists all that are due,
// and with very many logins that is what upkeep costs the store.
func Rounds(every, idleTime time.Duration) []Round {
	rounds := []Round{{every - 4*Pause(every, 0), every}}
	if idleTime > 0 {
		rounds = append(rounds, Round{idleTime / 4 * 3, max(idleTime/32, 1)})
	}
	return rounds
}

// Wanted returns whether the time of a login with this name is later than from, and not later
// than to.
func (r Round) Wanted(from, to time.Time) func(name string) bool {
	return func(name string) bool { return !Next(name, r.Every, from).After(to) }
}

// Next returns the first time after t that belongs to the login.
func Next(name string, every time.Duration, t time.Time) time.Time {
	h := fnv.New64a()
	h.Write([]byte(name))
	since := (t.UnixNano() - int64(h.Sum64()%uint64(every))) % int64(every)
	if since < 0 {
		since += int64(every)
	}
	return t.Add(every - time.Duration(since))
}

// Pause returns the mean time from the beginning of a pass to that of the next, if it took the
// store so long to list its logins: with very many of them that is not for nothing.
func Pause(every, took time.Duration) time.Duration {
	return max(min(every/64, time.Minute), 20*took, 50*time.Millisecond)
}

// From returns the time from which a pass at now, pauses apart from others, looks at the times of
// logins. last is when the last pass that went well began, or zero. However long ago that is,
// what was missed before is left alone.
func From(last, now time.Time, pause time.Duration) time.Time {
	if last.IsZero() || last.After(now) {
		return now.Add(-pause)
	}
	if longest := now.Add(-4 * pause); last.Before(longest) {
		return longest
	}
	return last
}
