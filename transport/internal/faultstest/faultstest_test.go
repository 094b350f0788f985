package faultstest

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// policies are those of real providers, from the kindest to the strictest.
var policies = []struct {
	name   string
	policy oauthtest.Policy
	grace  int // how many rotations may be lost in a row
}{
	{"no rotation", oauthtest.NoRotation, math.MaxInt},
	{"keep old", oauthtest.KeepOld, math.MaxInt},
	{"grace 30 s", oauthtest.Grace, math.MaxInt}, // in that time
	{"one-deep grace", oauthtest.SecondToLastKills, 1},
	{"strict family", oauthtest.StrictFamily, 0},
}

// A cell is one fault with one policy.
type cell struct {
	number  uint64 // one after the other, so that there are clients of each kind
	policy  int
	fault   fault
	keyring *realparts.SecretService // nil: the sealing key is in a file
	result  result
	err     error
}

// Every fault with every policy: no call fails while there is a good access token,
// and no login is lost that the policy allows to be kept.
func TestFaults(t *testing.T) {
	t.Parallel()
	keyring := osKeyring(t)
	var cells []*cell
	for i := range policies {
		for j, f := range faults(keyring != nil) {
			// The short schedule takes the two strictest providers in turn, and faults that pass in seconds.
			if long || i >= 3 && (i+j)%4 == 1 && !f.disk {
				cells = append(cells, &cell{number: uint64(len(cells)), policy: i, fault: f, keyring: keyring})
			}
		}
	}
	n := seed(t)
	busy := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for _, c := range cells {
		dir := t.TempDir()
		if c.fault.disk {
			if err := smallDisk(t, filepath.Join(dir, "disk")); err != nil {
				if os.Getenv("STAYAUTH_REQUIRE") == "all" {
					t.Fatal(err)
				}
				t.Logf("left out: %s, %s: %v", policies[c.policy].name, c.fault.name, err)
				c.err = errLeftOut
				continue
			}
		}
		if c.fault.keyring && keyring != nil {
			c.keyring = realparts.Keyring(t)
		}
		wg.Go(func() {
			busy <- struct{}{}
			defer func() { <-busy }()
			c.result, c.err = c.run(dir, n)
		})
	}
	wg.Wait()
	statements, proofs := 0, 0
	for _, c := range cells {
		c.check(t)
		statements += c.result.Statements
		proofs += c.result.Counts.Proofs
	}
	t.Logf("sealing keys: %s; %d statements about clients, %d proofs of possession\n%s", place(keyring), statements, proofs, table(cells))
	if statements == 0 && expected("key") || proofs == 0 && expected("bound") {
		t.Error("no client has said who it is by a key, or none has tokens that are bound to one")
	}
}

// osKeyring returns a real OS keyring, or nil where none is installed.
func osKeyring(t *testing.T) *realparts.SecretService {
	t.Helper()
	if realparts.KeyringInstalled() != nil && os.Getenv("STAYAUTH_REQUIRE") != "all" {
		return nil
	}
	return realparts.Keyring(t)
}

// place says where the sealing keys are.
func place(keyring *realparts.SecretService) string {
	if keyring == nil {
		return "in files, for want of an OS keyring"
	}
	return "in GNOME Keyring"
}

var errLeftOut = fmt.Errorf("left out")

func (c *cell) run(dir string, n uint64) (result, error) {
	w, err := newWorld(setup{dir: dir, policy: policies[c.policy].policy, processes: 2, ttl: 3 * time.Second,
		latency: 200 * time.Millisecond, timeout: c.fault.timeout, seed: [2]uint64{n, c.number},
		keyring: c.keyring, wrapped: c.fault.wrapped, plain: c.fault.plain})
	if err != nil {
		return result{}, err
	}
	if err := w.until("all processes work", func() bool { return w.working(time.Time{}) }); err != nil {
		w.complain("%v", err)
		return w.stop(), nil
	}
	if err := c.fault.run(w); err != nil {
		w.complain("%v", err)
	}
	return w.settle(), nil
}

// check reports what must not be.
func (c *cell) check(t *testing.T) {
	p, r := policies[c.policy], c.result
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s, %s: %s %v", p.name, c.fault.name, fmt.Sprintf(format, args...), r.Order)
	}
	if c.err == errLeftOut {
		return
	}
	if c.err != nil {
		fail("%v", c.err)
		return
	}
	for _, s := range r.Complaints {
		fail("%s", s)
	}
	mayLose := c.fault.loses && p.grace == 0 || c.fault.deep && p.grace == 1
	if r.Lost > r.Late && !mayLose {
		fail("%d logins lost", r.Lost-r.Late)
	}
	if r.Counts.Reuses > r.Lost {
		fail("%d reuses", r.Counts.Reuses)
	}
	if n := r.Repeated + r.Counts.RepeatedAssertions; n > 0 {
		fail("%d of %d statements about the client were sent twice", n, r.Statements)
	}
	if s := strayProofs(r.Counts); s != "" {
		fail("%s", s)
	}
	if c.fault.once && r.Counts.Replays > 0 {
		fail("%d refresh tokens were presented again", r.Counts.Replays)
	}
	if r.Answered > 0 && !c.fault.unsaved {
		fail("%d logins were lost although the process had the answer, and was not killed", r.Answered)
	}
	if r.Unexplained > 0 && !c.fault.unsaved {
		fail("%d logins were lost without saying that a refresh was interrupted", r.Unexplained)
	}
	if r.Strange > 0 && !c.fault.unsaved {
		fail("%d times a refresh token was presented that was not the stored one", r.Strange)
	}
	if r.Calls == 0 || r.Met == 0 && c.fault.name != "none" {
		fail("%d calls, and the fault was met %d times: nothing was tested", r.Calls, r.Met)
	}
}

// table prints what came of every cell. After a long outage a process recovers when its
// back-off is over, which it had promised; the last column is what comes on top.
func table(cells []*cell) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tfault\tmet\tcalls\tfailed, token good\tfailed, none good\trotations\treplays\tstatements\treuses\tlogins lost\trecovery\tafter the promise\t")
	for _, c := range cells {
		r := c.result
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t%v\t\n", policies[c.policy].name, c.fault.name, r.Met, r.Calls, r.FailedValid, r.Failed,
			r.Counts.Rotations, r.Counts.Replays, r.Statements, r.Counts.Reuses, r.Lost, r.Recovery.Round(100*time.Millisecond), r.Overdue.Round(100*time.Millisecond))
	}
	w.Flush()
	return b.String()
}

func containsMember(record []byte) bool { return bytes.Contains(record, []byte(nextMember)) }

// spread returns the median and the greatest of some durations.
func spread(d []time.Duration) (median, greatest time.Duration) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	return d[len(d)/2], d[len(d)-1]
}
