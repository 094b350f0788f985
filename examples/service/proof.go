package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A proof is what there was to see.
type proof struct {
	oauthtest.Counts
	tally
	saved    int // rotations that are in the store
	open     int // logins of which a killed replica had asked for a rotation that nobody has made up for yet
	ended    int // logins that are over
	killed   int
	requests int64
	late     int64 // whose token expired on the way
	failures []failure
	good     int // of these, those for which the replica had a token that was good
}

func (p *proof) String() string {
	var b strings.Builder
	row := func(what string, n any) { fmt.Fprintf(&b, "  %-52s %v\n", what, n) }
	fmt.Fprintf(&b, "\nwhat the provider has seen\n")
	row("token requests", p.TokenRequests)
	row("needed", p.needed())
	row("  once for every period of a user", p.due)
	if p.killed > 0 {
		row(fmt.Sprintf("  once more for what %d killed replicas had asked", p.killed), p.lost)
		row("  the longest time until that was done", p.wait.Round(time.Millisecond))
	}
	row("not needed: before it was due", p.early)
	row("not needed: once more, and nobody was killed", p.again)
	row("the most requests of a replica at a time", p.most)
	row("the longest that nobody used a refresh token", p.oldest.Round(time.Millisecond))
	row("rotations that are in the store", p.saved)
	if p.killed > 0 {
		row("still to be made up for", p.open)
		row("spent refresh tokens presented again, and forgiven", p.Replays)
	}
	row("spent refresh tokens presented again, and refused", p.Reuses)
	row("logins that ended", p.ended)
	fmt.Fprintf(&b, "what the users have seen\n")
	row("requests", p.requests)
	row("requests whose token expired on the way", p.late)
	row("requests that failed", len(p.failures))
	if len(p.failures) > 0 {
		row("  though the replica had a token that was good", p.good)
		row("the first of them", p.failures[0].text)
	}
	return b.String()
}

// check returns an error if a login was lost, or more than one token request in a hundred
// was wasted.
func (p *proof) check() error {
	var errs []error
	if p.Reuses > 0 || p.FamiliesRevoked > 0 || p.ended > 0 {
		errs = append(errs, fmt.Errorf("%d refresh tokens were presented twice, %d logins ended", p.Reuses, p.ended))
	}
	if p.good > 0 {
		errs = append(errs, fmt.Errorf("%d requests failed though there was a token that was good", p.good))
	}
	if wasted := p.TokenRequests - p.needed(); wasted > p.needed()/100 {
		errs = append(errs, fmt.Errorf("%d token requests, of which %d were needed", p.TokenRequests, p.needed()))
	}
	// Both sides agree: what was asked for is stored, once.
	if p.killed == 0 && p.open > 0 {
		errs = append(errs, fmt.Errorf("%d refresh tokens that are stored were spent, and nobody was killed", p.open))
	}
	if spent := p.due + p.early; spent != p.saved+p.open+p.ended {
		errs = append(errs, fmt.Errorf("%d refresh tokens were spent, and %d rotations are stored", spent, p.saved))
	}
	if p.saved == 0 {
		errs = append(errs, errors.New("no token was refreshed: nothing is proved"))
	}
	return errors.Join(errs...)
}
