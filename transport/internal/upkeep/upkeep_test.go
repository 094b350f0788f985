package upkeep

import (
	"fmt"
	"testing"
	"time"
)

const day = 24 * time.Hour

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// The times of a login are a period apart, whenever and wherever that is asked; and a pass that
// looks at a span of time finds exactly the logins whose time lies in it.
func TestNext(t *testing.T) {
	for _, every := range []time.Duration{1, time.Second, 7 * time.Minute, day, 90 * day} {
		for i := range 50 {
			name := fmt.Sprint("login ", i)
			first := Next(name, every, noon)
			if wait := first.Sub(noon); wait <= 0 || wait > every {
				t.Fatalf("%v after %v, every %v", wait, noon, every)
			}
			for _, after := range []time.Time{first, first.Add(every - 1), first.In(time.FixedZone("", 3600)), time.Unix(0, 0), time.Unix(-1e9, 0)} {
				next := Next(name, every, after)
				if wait := next.Sub(after); wait <= 0 || wait > every || next.Sub(first)%every != 0 {
					t.Errorf("every %v: %v after %v, first %v", every, next, after, first)
				}
			}
			r := Round{Every: every}
			if r.Wanted(first, first.Add(every-1))(name) || !r.Wanted(first.Add(-1), first)(name) || !r.Wanted(first, first.Add(every))(name) {
				t.Errorf("every %v: a pass misses %q, or finds it twice", every, name)
			}
		}
	}
}

// The times of many logins are spread evenly, however similar their names are.
func TestTimesAreSpread(t *testing.T) {
	const logins, parts = 24_000, 24
	var in [parts]int
	for i := range logins {
		in[Next(fmt.Sprint("account ", i), day, noon).Sub(noon.Add(1))/(day/parts)]++
	}
	for part, n := range in {
		if n < logins/parts*8/10 || n > logins/parts*12/10 {
			t.Errorf("%d of %d logins in hour %d", n, logins, part)
		}
	}
}

func TestPeriod(t *testing.T) {
	for _, tt := range []struct{ idleTime, lifetime, want time.Duration }{
		{0, 0, day},
		{7 * day, 0, day},              // Okta
		{90 * day, 0, day},             // Microsoft Entra
		{90 * day, day, 3 * time.Hour}, // a single-page application there
		{0, 30 * day, day},             // Auth0
		{time.Hour, 0, 15 * time.Minute},
	} {
		if got := Period(tt.idleTime, tt.lifetime); got != tt.want {
			t.Errorf("idle %v, lifetime %v: every %v, want %v", tt.idleTime, tt.lifetime, got, tt.want)
		}
	}
}

// A login is renewed well before it dies of disuse: by default when half of that time is over at
// the latest, and when the half of the rest is over after an outage, if that leaves it the time.
func TestRounds(t *testing.T) {
	for _, idleTime := range []time.Duration{time.Hour, 7 * day, 90 * day} {
		every := Period(idleTime, 0)
		rounds := Rounds(every, idleTime)
		if longest := rounds[0].Idle + rounds[0].Every; longest >= idleTime/2 {
			t.Errorf("idle time %v: a login is renewed after %v only", idleTime, longest)
		}
		if longest := rounds[1].Idle + rounds[1].Every; longest > idleTime-idleTime/8 {
			t.Errorf("idle time %v: a login in danger is renewed after %v only", idleTime, longest)
		}
		if rounds[0].Idle+2*Pause(every, 0) > every {
			t.Errorf("idle time %v: a login that was renewed a little late misses its next time", idleTime)
		}
	}
	// Each pass of each process lists what is idle that long.
	if early := day - Rounds(day, 0)[0].Idle; early > day/240 {
		t.Errorf("logins are listed %v before their time", early)
	}
	if n := len(Rounds(day, 0)); n != 1 {
		t.Errorf("%d rounds for a provider whose idle time is not known", n)
	}
	for _, r := range Rounds(1, 1) { // No period may be zero.
		r.Wanted(noon, noon.Add(1))("x")
	}
}

// One pass goes on where the last began. What was missed for long is left for its next time.
func TestFrom(t *testing.T) {
	const pause = time.Minute
	for _, tt := range []struct {
		name       string
		last, want time.Time
	}{
		{"the first pass", time.Time{}, noon.Add(-pause)},
		{"the next", noon.Add(-pause), noon.Add(-pause)},
		{"a slow one", noon.Add(-3 * pause), noon.Add(-3 * pause)},
		{"after an outage", noon.Add(-day), noon.Add(-4 * pause)},
		{"the clock was set back", noon.Add(day), noon.Add(-pause)},
	} {
		if got := From(tt.last, noon, pause); !got.Equal(tt.want) {
			t.Errorf("%s: from %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestPause(t *testing.T) {
	for _, tt := range []struct{ every, took, want time.Duration }{
		{day, 0, time.Minute},
		{time.Minute, 0, time.Minute / 64},
		{1, 0, 50 * time.Millisecond},
		{day, 30 * time.Second, 10 * time.Minute}, // A store that is slow is not asked all the time.
	} {
		if got := Pause(tt.every, tt.took); got != tt.want {
			t.Errorf("every %v, took %v: pause %v, want %v", tt.every, tt.took, got, tt.want)
		}
	}
}

func FuzzNext(f *testing.F) {
	f.Add("login", int64(day), int64(0))
	f.Add("", int64(1), int64(-1))
	f.Fuzz(func(t *testing.T, name string, every, at int64) {
		if every <= 0 || every > int64(1000*day) || at < -1e18 || at > 4e18 {
			return
		}
		after := time.Unix(0, at)
		next := Next(name, time.Duration(every), after)
		if wait := next.Sub(after); wait <= 0 || wait > time.Duration(every) {
			t.Errorf("%v", wait)
		}
	})
}
