package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// A tally is what one process has reported.
type tally struct {
	calls, failed, renewed, outages int
	slowest                         time.Duration
	problem                         string // of the first call that failed
}

// tell shows and counts what a process of the demonstration reports.
func (d *demo) tell(process string, r report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.tally[process]
	defer func() { d.tally[process] = t }()
	who := ""
	if process == otherProcess {
		who = " by the other process"
	}
	switch r.Event {
	case "":
		t.calls++
		t.slowest = max(t.slowest, r.Took)
		if r.Err == "" {
			d.tl.mark(process, markCall)
			return
		}
		t.failed++
		if t.problem == "" {
			t.problem = r.Err
		}
		d.tl.mark(process, markFailed)
		d.tl.note(markFailed, "a call failed: %s", r.Err)
	case transport.EventLogin:
		d.tl.note(' ', "logged in; the access token is good for %v", tokenLife)
	case transport.EventRefreshed:
		t.renewed++
		d.tl.mark(process, markRenewed)
		d.tl.note(markRenewed, "renewed%s, generation %d", who, r.Generation)
	case transport.EventAdopted:
		d.tl.mark(process, markAdopted)
	case transport.EventOutage:
		t.outages++
		d.tl.note(markRefused, "renewal refused; the next attempt is due in %.1f s", time.Until(r.RetryAt).Seconds())
	case transport.EventRefreshFailed, transport.EventRecovered: // Marked as attempts and renewals are.
	default:
		d.tl.note(' ', "%s: %s", r.Event, r.Err)
	}
}

// refused is told when the provider turns a renewal down.
func (d *demo) refused() { d.tl.mark(thisProcess, markRefused) }

// summary tells what was counted, by the clients and by the provider, and returns
// an error if that is not how it should be.
func (d *demo) summary() error {
	this, other, seen := d.of(thisProcess), d.of(otherProcess), d.provider.Counts()
	calls, failed := this.calls+other.calls, this.failed+other.failed
	turnedDown := int(d.provider.refused.Load())
	logins := seen.TokenRequests - seen.Rotations - turnedDown - seen.InvalidGrants

	d.tl.title("Summary")
	line := func(what string, n int, format string, args ...any) {
		d.tl.print(fmt.Sprintf("  %-15s%5d  ", what, n) + d.tl.paint(dim, fmt.Sprintf(format, args...)))
	}
	line("calls", calls, "by two processes; the slowest took %d ms", max(this.slowest, other.slowest).Milliseconds())
	line("failures", failed, "of these")
	line("healed 401s", seen.APIRefused, "rejected by the API, sent again with a new token")
	line("token requests", seen.TokenRequests, "%d login, %d rotations, %d in the outage", logins, seen.Rotations, turnedDown)
	line("rotations", seen.Rotations, "%d by this process, %d by the other", this.renewed, other.renewed)
	line("reuses", seen.Reuses, "spent refresh tokens that were presented again")
	d.tl.print("")
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d calls failed, the first with: %s", failed, calls, this.problem+other.problem)
	case seen.Reuses > 0:
		return errors.New("a spent refresh token was presented again")
	case logins != 1:
		return fmt.Errorf("%d logins, where one should have done", logins)
	}
	d.tl.text("One login, and it is still good: nobody was asked to log in again.")
	return nil
}

func (d *demo) of(process string) tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tally[process]
}
