package faultstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A world is a provider, a login, and the processes that share it.
type world struct {
	plan      plan
	provider  *provider
	user      *user
	keyring   *realparts.SecretService // that has the sealing key; nil: it is in a file
	rng       *rand.Rand               // of the schedule
	processes []*process

	mu       sync.Mutex
	result   result
	healed   time.Time // when the last fault ended; zero: not yet
	killed   map[string]time.Time
	answered map[string]bool // fingerprints of the refresh tokens whose successors have come
	names    int
}

// A result is what came of it all.
type result struct {
	Met         int // how often the fault was met
	Calls       int
	Took        []time.Duration // by calls with a good token
	FailedValid int             // calls that failed although there was a good token
	Order       []string        // the faults, if there was one after the other
	Failed      int             // other calls that failed
	Lost        int             // logins
	Unexplained int             // of these, without saying that a refresh was interrupted
	Uncut       int             // of these, when the process that had spent its refresh token was not killed
	Answered    int             // of these, although it had the answer
	Late        int             // of these, when the grace was over, because the machine is slow
	Recovery    time.Duration   // the longest time from the end of the fault to a call that worked
	Overdue     time.Duration   // and from when the next attempt was promised
	Widths      []time.Duration
	Events      map[string]int
	Complaints  []string
	Counts      oauthtest.Counts
	Statements  int // about the client that were sent to the provider
	Repeated    int // of these, those that had been sent before
	Strange     int // refresh tokens presented that were not the stored one
	Kills       int
	Stops       int
}

type setup struct {
	dir       string
	policy    oauthtest.Policy
	processes int
	ttl       time.Duration
	latency   time.Duration
	timeout   time.Duration // of an Endpoint; 0: the default
	seed      [2]uint64
	keyring   *realparts.SecretService // nil: the sealing key is in a file
	wrapped   bool                     // the store can meet trouble
	plain     bool
	noLock    bool
	sync      time.Duration // of each fsync
}

// newWorld logs in and starts the processes.
func newWorld(c setup) (w *world, err error) {
	w = &world{keyring: c.keyring, rng: rand.New(rand.NewPCG(c.seed[0], c.seed[1])), killed: make(map[string]time.Time), answered: make(map[string]bool)}
	w.result.Events = make(map[string]int)
	client, err := newClient(c.seed[0]+c.seed[1], "secret", "key", "bound")
	if err != nil {
		return nil, err
	}
	if w.provider, err = newProvider(c.policy, c.latency, c.ttl, client); err != nil {
		return nil, err
	}
	w.plan = plan{Dir: c.dir, TokenURL: w.provider.tokenURL, API: w.provider.api.URL + "/api", Origin: w.provider.api.URL, Oracle: w.provider.api.URL + oracle,
		TTL: c.ttl, Timeout: c.timeout, Wrapped: c.wrapped || c.plain || c.noLock, Plain: c.plain, NoLock: c.noLock, Sync: c.sync,
		Client: w.provider.client}
	if c.keyring != nil {
		w.plan.Keyring = c.keyring.Env
	}
	if w.user, err = newUser(w.plan); err != nil {
		return nil, err
	}
	w.provider.stored = func() string {
		s, _ := w.user.look()
		return s.RefreshToken
	}
	if err := w.login(); err != nil {
		return nil, err
	}
	for i := range c.processes {
		w.processes = append(w.processes, new(process))
		if err := w.start(i); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) login() error { return w.user.login(w.provider.login()) }

// start starts process i.
func (w *world) start(i int) error {
	plan := w.plan
	w.mu.Lock()
	w.names++
	plan.Name = fmt.Sprint("process ", w.names)
	w.mu.Unlock()
	plan.Next = plan.Plain && i%2 == 1
	p := w.processes[i]
	return p.start(plan, func(r report) { w.hear(p, r) })
}

// kill kills process i, some time after it has started, and waits until it is dead.
func (w *world) kill(i int, after time.Duration) {
	p := w.processes[i]
	p.awaitStart()
	time.Sleep(after)
	w.mu.Lock()
	w.killed[p.name] = time.Now()
	w.result.Kills++
	w.result.Met++
	w.mu.Unlock()
	p.kill()
}

// end lets process i end as a program should.
func (w *world) end(i int) {
	if err := w.processes[i].end(); err != nil {
		w.complain("%v", err)
	}
}

func (w *world) complain(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Complaints = append(w.result.Complaints, fmt.Sprintf(format, args...))
}

// hear takes a report.
func (w *world) hear(p *process, r report) {
	w.mu.Lock()
	w.result.Calls += r.Calls
	if r.Took > 0 {
		w.result.Took = append(w.result.Took, r.Took)
	}
	switch {
	case r.Failed != "" && r.Valid:
		w.result.FailedValid++
		w.result.Complaints = append(w.result.Complaints, r.At.Format("15:04:05.000")+": failed with a good token: "+r.Failed)
	case r.Failed != "":
		w.result.Failed++
	case r.Again && !w.healed.IsZero():
		w.result.Recovery = max(w.result.Recovery, r.At.Sub(w.healed))
		w.result.Overdue = max(w.result.Overdue, r.At.Sub(w.healed)-max(p.promised().Sub(w.healed), 0))
	}
	if r.Met {
		w.result.Met++
	}
	if r.Event != "" {
		w.result.Events[r.Event]++
	}
	if r.Answered != "" {
		w.answered[r.Answered] = true
	}
	if r.Width != 0 {
		w.result.Widths = append(w.result.Widths, r.Width)
	}
	if r.Fatal != "" {
		w.result.Complaints = append(w.result.Complaints, r.Fatal)
	}
	w.mu.Unlock()

	p.note(r)
	if r.Login {
		w.loseLogin()
	}
}

// loseLogin is the user, who is told to log in again and does so.
func (w *world) loseLogin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.user.look()
	if err == nil && !s.Lost {
		return // That is done already.
	}
	if err != nil {
		w.result.Complaints = append(w.result.Complaints, "the login cannot be read: "+err.Error())
	} else {
		w.result.Lost++
		if !s.Interrupted {
			w.result.Unexplained++
		}
		client, after := w.provider.spender(s.RefreshToken)
		if w.killed[client].IsZero() {
			w.result.Uncut++
			if w.answered[fingerprint(s.RefreshToken)] {
				w.result.Answered++
			}
		}
		if w.provider.policy == oauthtest.Grace && after > gracePeriod {
			w.result.Late++
		}
	}
	if err := w.login(); err != nil {
		w.result.Complaints = append(w.result.Complaints, "the user cannot log in: "+err.Error())
	}
}

// meet notes that something was met n times.
func (w *world) meet(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Met += n
}

// met returns how often something was met.
func (w *world) met() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.provider.gate.mu.Lock()
	defer w.provider.gate.mu.Unlock()
	return w.result.Met + w.provider.gate.met
}

// until waits for a condition. After a long outage, four minutes may pass until a
// process asks the provider again.
func (w *world) until(what string, f func() bool) error {
	for range 6000 {
		if f() {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("after five minutes still not: " + what)
}

// working reports whether every process has had an answer since then.
func (w *world) working(since time.Time) bool {
	for _, p := range w.processes {
		if !p.working(since) {
			return false
		}
	}
	return true
}

// settle waits until all is well after the fault, ends the processes and returns
// what came of it.
func (w *world) settle() result {
	w.mu.Lock()
	w.healed = time.Now()
	w.mu.Unlock()
	// What was asked for earlier may have run into the fault.
	err := w.until("all processes work, and the login was refreshed", func() bool {
		return w.working(w.healed) && w.provider.refreshed(w.healed)
	})
	if err != nil {
		w.complain("%v", err)
	}
	return w.stop()
}

// stop ends everything.
func (w *world) stop() result {
	var wg sync.WaitGroup
	for i := range w.processes {
		wg.Go(func() { w.end(i) })
	}
	wg.Wait()
	w.lookBack()
	if err := w.user.end(); err != nil {
		w.complain("%v", err)
	}
	w.provider.close()
	w.result.Counts = w.provider.Counts()
	w.result.Statements, w.result.Repeated = w.provider.statements.count()
	w.result.Met = w.met()
	w.result.Strange = w.provider.strange(w.killed)
	said := strings.Join(w.result.Complaints, "\n")
	for _, secret := range w.provider.Secrets() {
		if strings.Contains(said, secret) {
			w.result.Complaints = []string{"a secret was printed"}
		}
	}
	return w.result
}

// lookBack waits for what those who were killed have sent. If that has ended the login,
// nobody knows yet: one more process finds out.
func (w *world) lookBack() {
	err := w.until("the provider has dealt with everything", w.provider.idle)
	known := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.provider.Counts().Reuses <= w.result.Lost
	}
	if err == nil && !known() {
		if err = w.start(0); err == nil {
			err = w.until("a process knows that the login is lost", known)
			w.end(0)
		}
	}
	if err != nil {
		w.complain("%v", err)
	}
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.plan.Dir}, elem...)...)
}
