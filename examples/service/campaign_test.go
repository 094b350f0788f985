package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

var (
	campaignTime  time.Duration
	campaignSeed  uint64
	campaignCalls string
)

func init() {
	flag.DurationVar(&campaignTime, "campaign", 0, "how long each case of TestCampaign goes on; 0 is for one failover of one case")
	flag.Uint64Var(&campaignSeed, "seed", 0, "the sequence of TestCampaign; 0 is for a random one, if -campaign is set")
	flag.StringVar(&campaignCalls, "calls", "", "a directory for a table of the calls of each case of TestCampaign")
}

// A database fails over again and again, in a random sequence of ways, while replicas are killed
// and replaced in between, one has a wrong clock, and the provider forgives nothing. What is
// saved on more than one server stays: then no login is lost but those of which a replica that
// dies, or is cut off, had just asked for. Otherwise what is lost is what the documentation of
// the store says, and its users are told that.
//
// -args -campaign 5m -seed 1 goes on for as long, in all cases.
func TestCampaign(t *testing.T) {
	for _, c := range campaigns {
		if campaignTime == 0 && !c.always {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

// A campaignCase is a way to set up a store, and what can happen to it.
type campaignCase struct {
	name   string
	always bool // not only with -campaign
	start  func(t *testing.T) site
}

// A site is such a store.
type site struct {
	store, session string
	confirm        int
	place          func(*config) // where a replica finds the store, if that depends on the replica
	forgets        bool          // what it has confirmed may be lost in a failover
	apart          bool          // the lock on a login may be on another server than the login
	troubles       []trouble
}

// A trouble happens to the store. It returns when the store has recovered.
type trouble struct {
	name string
	do   func(t *testing.T, r *rand.Rand, c *campaign)
}

// A campaign is a run of a case.
type campaign struct {
	site
	swarm *swarm
	wrong string // the program of replicas whose clock is wrong; "": there are none

	mu       sync.Mutex
	calls    []call
	failures []failed             // of the store
	away     map[int][]absent     // replicas that were cut off from the store
	ends     []end                // of logins
	relogins map[string]bool      // users who log in again
	again    map[string]time.Time // when users have logged in again, for the last time
	ended    int                  // replicas, in whichever way
}

// failed is a time at which the store did not work.
type failed struct {
	what        string
	begin, over time.Time
}

type absent struct{ from, to time.Time } // to is zero if it is not over

func (cc campaignCase) run(t *testing.T) {
	seed := max(1, campaignSeed)
	if campaignTime > 0 && campaignSeed == 0 {
		seed = rand.Uint64N(1e6)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	latency := []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}[r.IntN(3)]
	skew, odd := []time.Duration{5 * time.Minute, -5 * time.Minute}[r.IntN(2)], r.IntN(8)
	o := size
	o.kill = 0
	s := cc.start(t)
	c := &campaign{site: s, away: make(map[int][]absent), relogins: make(map[string]bool), again: make(map[string]time.Time)}
	if campaignTime > 0 {
		o.users, o.replicas, o.rate, o.latency, o.tokenLife = 24, 8, 80, latency, 8*time.Second
		c.wrong = buildWithClock(t, skew)
		t.Logf("-seed %d: the provider takes %v; the clock of every eighth replica is %v ahead", seed, latency, skew)
	}
	o.store, o.session, o.confirm = s.store, s.session, s.confirm
	o.before = func(swarm *swarm) {
		c.swarm = swarm
		swarm.config.Tells = true
		swarm.watch = c.answered
		swarm.ledger.reused = c.reused
		swarm.vary = func(conf *config) string {
			if s.place != nil {
				s.place(conf)
			}
			if conf.Replica%8 == odd {
				return c.wrong
			}
			return ""
		}
	}
	o.during = func(*swarm) { c.goThrough(t, r) }
	proof, err := run(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(proof)
	c.check(t, proof)
	c.report(t, cc.name, proof)
}

// goThrough goes through a sequence of troubles.
func (c *campaign) goThrough(t *testing.T, r *rand.Rand) {
	begun := time.Now()
	time.Sleep(3 * time.Second)
	for step := 0; step == 0 || time.Since(begun) < campaignTime; step++ {
		which := c.troubles[r.IntN(len(c.troubles))]
		if step < len(c.troubles) && campaignTime > 0 {
			which = c.troubles[step]
		}
		t.Logf("%v: %s", time.Since(begun).Round(100*time.Millisecond), which.name)
		var others sync.WaitGroup
		if campaignTime > 0 {
			for range r.IntN(3) {
				after, kill, victim := time.Duration(r.Int64N(int64(8*time.Second))), r.IntN(2) == 0, r.Int()
				others.Go(func() {
					time.Sleep(after)
					c.replace(t, kill, victim, begun)
				})
			}
		}
		c.mu.Lock()
		c.failures = append(c.failures, failed{what: which.name, begin: time.Now()})
		c.mu.Unlock()
		which.do(t, r, c)
		c.mu.Lock()
		c.failures[step].over = time.Now()
		c.mu.Unlock()
		if t.Failed() {
			return
		}
		others.Wait()
		time.Sleep(2 * time.Second)
		if campaignTime > 0 {
			time.Sleep(time.Duration(r.Int64N(int64(6 * time.Second))))
		}
		c.logInAgain(t)
	}
	quiet := time.Second
	for last := time.Now(); !c.swarm.works(quiet, 5*time.Second) && time.Since(last) < patience; {
		c.logInAgain(t)
		time.Sleep(quiet / 10)
	}
	c.logInAgain(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.relogins); n > 0 {
		t.Errorf("%d users cannot log in, although the store is back", n)
	}
}

// replace kills a replica, or tells it to end, and starts another one.
func (c *campaign) replace(t *testing.T, kill bool, victim int, begun time.Time) {
	old := c.swarm.take(victim)
	t.Logf("%v: replica %d ends; it is killed: %v", time.Since(begun).Round(100*time.Millisecond), old.number, kill)
	var err error
	if kill {
		c.swarm.crash(old)
	} else if err = old.stop(); err != nil {
		err = fmt.Errorf("replica %d: %w", old.number, err)
	}
	c.mu.Lock()
	c.ended++
	c.mu.Unlock()
	if err := errors.Join(err, c.swarm.add()); err != nil {
		t.Error(err)
	}
}

// answered is told of each call.
func (c *campaign) answered(call call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
	again := c.again[call.account]
	if call.failed == nil || !strings.Contains(call.failed.text, "login required") || c.relogins[call.account] || call.begun.Before(again) {
		return
	}
	c.relogins[call.account] = true
	e := end{cause: told, account: call.account, what: call.failed.text}
	if c.forgets && !again.IsZero() && c.failed(again, call.begun, "") {
		e.cause = byLogin
	}
	c.ends = append(c.ends, e)
}

// logInAgain has all users log in again who were told to.
func (c *campaign) logInAgain(t *testing.T) {
	c.mu.Lock()
	var accounts []string
	for account := range c.relogins {
		accounts = append(accounts, account)
	}
	c.mu.Unlock()
	for _, account := range accounts {
		if err := c.swarm.logIn(t.Context(), account); err != nil {
			t.Logf("%s does not get in: %v", account, err)
			continue
		}
		c.mu.Lock()
		delete(c.relogins, account)
		c.again[account] = time.Now()
		c.mu.Unlock()
	}
}

// buildWithClock builds this program with a clock that is ahead of this machine's.
func buildWithClock(t *testing.T, ahead time.Duration) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	realparts.Require(t, "Go", err)
	dir, source := t.TempDir(), filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const read = "sec, nsec, mono := runtimeNow()\n"
	if !strings.Contains(string(text), read) {
		t.Fatal("time.Now is not what it was")
	}
	changed := strings.ReplaceAll(string(text), read, fmt.Sprintf("%ssec += %d\n", read, int(ahead.Seconds())))
	overlay, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "service")
	for name, content := range map[string]string{
		"time.go":      changed,
		"overlay.json": fmt.Sprintf(`{"Replace": {%q: %q}}`, source, filepath.Join(dir, "time.go")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}
