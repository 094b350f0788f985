package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A proof is what there was to see.
type proof struct {
	oauthtest.Counts
	saved        int // rotations that are in the store
	ended        int // logins that are over
	killed       int
	requests     int64
	failed       int64
	firstFailure string
}

func (p *proof) String() string {
	var b strings.Builder
	row := func(what string, n any) { fmt.Fprintf(&b, "  %-52s %v\n", what, n) }
	fmt.Fprintf(&b, "\nwhat the provider has seen\n")
	row("token requests", p.TokenRequests)
	row("rotations that are in the store", p.saved)
	row("spent refresh tokens presented again, and refused", p.Reuses)
	if p.killed > 0 {
		row("the same, forgiven: the first had been killed", p.Replays)
		row("replicas killed", p.killed)
	}
	row("logins that ended", p.ended)
	fmt.Fprintf(&b, "what the users have seen\n")
	row("requests", p.requests)
	row("requests that failed", p.failed)
	if p.firstFailure != "" {
		row("the first of them", p.firstFailure)
	}
	return b.String()
}

// check returns an error if anything was wasted or lost.
func (p *proof) check() error {
	var errs []error
	if p.Reuses > 0 || p.FamiliesRevoked > 0 || p.ended > 0 {
		errs = append(errs, fmt.Errorf("%d refresh tokens were presented twice, %d logins ended", p.Reuses, p.ended))
	}
	// One in a hundred may be wasted. What a replica had asked for when it was killed has
	// to be asked for again.
	if wasted := p.TokenRequests - p.saved; wasted > p.Replays+p.saved/100+p.killed {
		errs = append(errs, fmt.Errorf("%d token requests for %d rotations", p.TokenRequests, p.saved))
	}
	if p.saved == 0 {
		errs = append(errs, errors.New("no token was refreshed: nothing is proved"))
	}
	return errors.Join(errs...)
}
