package faultstest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// How often a process is stopped, and for how long.
var (
	stopsEach = pick(1, 3, 10)
	stopTime  = pick(time.Second, 3*time.Second, 20*time.Second)
)

// killed kills processes at random moments and starts others in their place. A token
// lives for a second and a half and a rotation takes almost a third of that, so that
// many are killed between the provider's commit and the save.
func killed(dir string, policy oauthtest.Policy, keyring *realparts.SecretService, kills int, n uint64) (result, error) {
	const lifetime = 1200 * time.Millisecond
	w, err := newWorld(setup{dir: dir, policy: policy, processes: 4, ttl: 1500 * time.Millisecond,
		latency: 400 * time.Millisecond, seed: [2]uint64{n, uint64(policy)}, keyring: keyring})
	if err != nil {
		return result{}, err
	}
	var wg sync.WaitGroup
	for i := range w.processes {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), uint64(i)))
		wg.Go(func() {
			rounds := kills / len(w.processes)
			for n := range rounds {
				if every := max(1, rounds/stopsEach); n%every == every/2 {
					w.freeze(i, time.Duration(rng.Int64N(int64(lifetime))), stopTime)
				}
				w.kill(i, time.Duration(rng.Int64N(int64(lifetime))))
				if err := w.start(i); err != nil {
					w.complain("%v", err)
					return
				}
				if n%10 < 9 {
					continue
				}
				// However slow the machine is, something has to happen besides.
				now := time.Now()
				if err := w.until("the login was refreshed", func() bool { return w.provider.refreshed(now) }); err != nil {
					w.complain("%v", err)
				}
			}
		})
	}
	wg.Wait()
	return w.settle(), nil
}

// Processes that are killed, or stopped for a time, lose no login if the provider accepts the token before
// the current one. If it does not, the login is lost by exactly those kills that come
// between its commit and the save, and by no stop; the spent token is presented once, and what has
// happened is said.
func TestKills(t *testing.T) {
	t.Parallel()
	kills, keyring := pick(24, 200, 1000), osKeyring(t)
	n := seed(t)
	results := make([]result, len(policies))
	errs := make([]error, len(policies))
	var wg sync.WaitGroup
	for i, p := range policies {
		if !long && i < 3 {
			continue
		}
		dir := t.TempDir()
		wg.Go(func() { results[i], errs[i] = killed(dir, p.policy, keyring, kills, n) })
	}
	wg.Wait()
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tkills\tstops\tcalls\tfailed, token good\trotations\treplays\tstatements\treuses\tlogins lost\texplained\tanswer to save: median\tlongest\t")
	for i, p := range policies {
		if errs[i] != nil {
			t.Errorf("%s: %v", p.name, errs[i])
		}
		r := results[i]
		if r.Kills == 0 {
			continue
		}
		median, longest := spread(r.Widths)
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t%v\t\n", p.name, r.Kills, r.Stops, r.Calls, r.FailedValid, r.Counts.Rotations, r.Counts.Replays,
			r.Statements, r.Counts.Reuses, r.Lost, r.Lost-r.Unexplained, median.Round(time.Microsecond), longest.Round(time.Microsecond))
		for _, s := range r.Complaints {
			t.Errorf("%s: %s", p.name, s)
		}
		if p.grace > 0 && r.Lost > r.Late {
			t.Errorf("%s: %d logins lost", p.name, r.Lost-r.Late)
		}
		if r.Counts.Reuses != r.Lost {
			t.Errorf("%s: %d reuses, and %d logins lost", p.name, r.Counts.Reuses, r.Lost)
		}
		if r.Unexplained > 0 || r.Uncut > 0 {
			t.Errorf("%s: of %d logins lost, %d without an explanation, %d although nobody was killed between the commit and the save",
				p.name, r.Lost, r.Unexplained, r.Uncut)
		}
		if s := strayProofs(r.Counts); s != "" {
			t.Errorf("%s: %s", p.name, s)
		}
		if r.Strange > 0 {
			t.Errorf("%s: %d times a refresh token was presented that was not the stored one", p.name, r.Strange)
		}
		if n := r.Repeated + r.Counts.RepeatedAssertions; n > 0 {
			t.Errorf("%s: %d of %d statements about the client were sent twice", p.name, n, r.Statements)
		}
		if r.Counts.Rotations < kills/50 {
			t.Errorf("%s: only %d rotations: nothing was tested", p.name, r.Counts.Rotations)
		}
	}
	w.Flush()
	t.Logf("sealing keys: %s\n%s", place(keyring), b.String())
}

// Without the lock nobody has to be killed for a refresh token to be spent twice: the test above
// can fail.
func TestReuseWithoutTheLock(t *testing.T) {
	t.Parallel()
	// If the provider were fast, the journal would do.
	w, err := newWorld(setup{dir: t.TempDir(), policy: oauthtest.StrictFamily, processes: 4, ttl: 1500 * time.Millisecond,
		latency: 1500 * time.Millisecond, seed: [2]uint64{seed(t)}, noLock: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.until("a refresh token is spent twice", func() bool { return w.provider.Counts().Reuses > 0 }); err != nil {
		t.Errorf("without the lock nothing went wrong, so the test above proves nothing: %v", err)
	}
	for i := range w.processes { // They would wait for each other.
		w.kill(i, 0)
	}
	if err := w.user.end(); err != nil {
		t.Error(err)
	}
	w.provider.close()
}
