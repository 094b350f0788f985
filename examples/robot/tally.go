package main

import (
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// A tally is what robots have done and seen.
type tally struct {
	out io.Writer // what happens to tokens is written there

	mu            sync.Mutex
	calls, failed int
	problem       error
	requested     int               // tokens, from the provider
	adopted       int               // tokens, from another robot
	newest        map[string]uint64 // by user, the generation of the token that was requested last
	twice         int               // tokens that were requested though another robot had done so
}

func newTally(out io.Writer) *tally { return &tally{out: out, newest: make(map[string]uint64)} }

// call notes how a call has ended.
func (t *tally) call(user string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls++
	if err == nil {
		return
	}
	t.failed++
	err = fmt.Errorf("a call for %s: %w", name(user), err)
	if t.problem == nil || t.problem.Error() != err.Error() { // Once is enough.
		t.say(time.Now(), "%v", err)
	}
	t.problem = err
}

// generations returns which token of each user is the newest.
func (t *tally) generations() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.newest)
}

// event notes what has happened to a token.
func (t *tally) event(e transport.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	user := e.Key.Account
	switch e.Type {
	case transport.EventRefreshed:
		t.requested++
		if e.Generation <= t.newest[user] {
			t.twice++
		}
		t.newest[user] = e.Generation
		t.say(e.At, "a token for %s, good until %s", name(user), e.Expiry.Local().Format(time.TimeOnly))
	case transport.EventAdopted:
		t.adopted++
		t.say(e.At, "another robot's token for %s", name(user))
	case transport.EventOutage:
		t.say(e.At, "no new token for %s: %v", name(user), e.Err)
	}
}

func (t *tally) say(at time.Time, format string, args ...any) {
	fmt.Fprintf(t.out, "%s  %s\n", at.Local().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// name is how a user is called, or the robot.
func name(user string) string {
	if user == "" {
		return "itself"
	}
	return user
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%d calls, %d failed; %d tokens were requested, and %d taken over from another robot", t.calls, t.failed, t.requested, t.adopted)
}

// check returns an error if a call has failed, or a token was requested twice.
func (t *tally) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.failed > 0:
		return fmt.Errorf("%d of %d calls have failed: %w", t.failed, t.calls, t.problem)
	case t.twice > 0:
		return fmt.Errorf("%d tokens were requested by two robots", t.twice)
	}
	return nil
}
