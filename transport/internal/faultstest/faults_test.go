package faultstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A fault is something that goes wrong for a time.
type fault struct {
	name string

	// loses says that the provider may carry out a refresh without anybody saving its
	// answer. If it forgives nothing, that ends the login.
	loses bool

	// deep says that this may happen to several refreshes in a row, which is more than a
	// provider forgives that remembers one token.
	deep bool

	// once says that no refresh token is presented again.
	once bool

	// unsaved says that the newest refresh token may be in memory alone.
	unsaved bool

	timeout time.Duration // of an Endpoint; 0: the default

	disk    bool // needs a small disk of its own
	keyring bool // needs a keyring of its own, where there are any
	wrapped bool // needs a store that meets trouble
	plain   bool // and records that are not sealed

	// run makes things go wrong, and right again before it returns.
	run func(w *world) error
}

// period is how long a fault lasts at least. A token lives for three seconds.
var period = pick(4*time.Second, 4*time.Second, 20*time.Second)

// faults returns all that there are, with or without those of an OS keyring.
func faults(keyring bool) []fault {
	return append(single(keyring), fault{name: "one after the other", keyring: true, wrapped: true, unsaved: true, loses: true, deep: true, run: medley})
}

func single(keyring bool) []fault {
	f := append(portable, unixFaults...)
	if keyring {
		f = append(f, keyringFaults...)
	}
	return f
}

const frozenProvider = "frozen provider"

var portable = []fault{
	{name: "none", once: true, run: func(*world) error { time.Sleep(period); return nil }},
	{name: "SIGKILL", loses: true, run: kills},
	{name: "provider restarts", loses: true, run: restarts},
	{name: "reset before the request is read", loses: true, run: func(w *world) error {
		defer w.provider.gate.set(false)
		w.provider.gate.set(true)
		return w.wait()
	}},
	{name: "reset after the request was read", run: network(70, oauthtest.Drop)},
	{name: "answer lost after the commit", loses: true, run: network(70, oauthtest.AfterCommit(oauthtest.Drop))},
	{name: "503 after the commit", loses: true, run: network(70, oauthtest.AfterCommit(oauthtest.Status(503, 0)))},
	{name: "truncated answer", loses: true, run: network(70, oauthtest.Truncate)},
	{name: "answer byte by byte", run: network(70, oauthtest.Drip(5*time.Millisecond))},
	{name: "503 storm", run: network(100, oauthtest.Status(503, 0))},
	{name: "503 storm, Retry-After", run: network(100, oauthtest.Status(503, 2*time.Second))},
	{name: "429 storm, Retry-After", run: network(100, oauthtest.Status(429, 2*time.Second))},
	{name: "captive portal", run: network(100, oauthtest.HTML)},
	{name: frozenProvider, once: true, run: freeze},
	{name: "SIGKILL, still processing", loses: true, run: func(w *world) error {
		defer w.provider.meet(nil)
		busy := &oneAtATime{tokens: make(map[string]bool)}
		w.provider.meet(func() oauthtest.Fault { return busy.fault(time.Second) })
		err := kills(w)
		w.provider.meet(func() oauthtest.Fault { return busy.fault(0) })
		return errors.Join(err, w.until("the provider has dealt with what it had begun", busy.none))
	}},
	{name: "DNS failure", run: inside(dnsFails, 100)},
	{name: "clock a day ahead", run: clock(-24 * time.Hour)},
	{name: "clock a day behind", run: clock(24 * time.Hour)},
	{name: "saves fail", wrapped: true, unsaved: true, run: inside(savesFail, 60)},
	{name: "saves fail after the write", wrapped: true, unsaved: true, run: inside(savesDeaf, 60)},
	{name: "saves that lie", wrapped: true, unsaved: true, loses: true, deep: true, run: inside(savesLie, 30)},
	{name: "two versions of the library", plain: true, run: versions},
}

// wait lets the fault last for its time, and until somebody has met it.
func (w *world) wait() error {
	before := w.met()
	time.Sleep(period)
	return w.until("the fault was met", func() bool { return w.met() > before })
}

// network lets percent of a hundred token requests meet a fault.
func network(percent int, f oauthtest.Fault) func(*world) error {
	return func(w *world) error {
		var mu sync.Mutex // Requests come at the same time, and one may still be on its way when the next fault begins.
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), w.rng.Uint64()))
		defer w.provider.meet(nil)
		w.provider.meet(func() oauthtest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if rng.IntN(100) < percent {
				return f
			}
			return nil
		})
		return w.wait()
	}
}

// freeze lets the provider accept requests and deal with them when it goes on, also if
// nobody waits for the answer any more.
func freeze(w *world) error {
	thaw := make(chan struct{})
	w.provider.meet(func() oauthtest.Fault {
		return func(endpoint http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				<-thaw
				endpoint.ServeHTTP(rw, r.WithContext(context.WithoutCancel(r.Context())))
			})
		}
	})
	err := w.wait()
	w.provider.meet(nil)
	close(thaw)
	return err
}

// oneAtATime are the refresh tokens that a provider works on.
type oneAtATime struct {
	mu     sync.Mutex
	tokens map[string]bool
}

// begin reports whether nobody works on the token yet.
func (o *oneAtATime) begin(token string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tokens[token] {
		return false
	}
	o.tokens[token] = true
	return true
}

func (o *oneAtATime) end(token string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.tokens, token)
}

func (o *oneAtATime) none() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.tokens) == 0
}

// fault lets the provider take its time, though the client may have gone, and refuse a
// refresh token while it works on it.
func (o *oneAtATime) fault(work time.Duration) oauthtest.Fault {
	return func(endpoint http.Handler) http.Handler {
		slow := oauthtest.Slow(work)(endpoint)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				endpoint.ServeHTTP(w, r)
				return
			}
			body, _ := io.ReadAll(r.Body) // it is in memory
			r.Body = io.NopCloser(bytes.NewReader(body))
			form, _ := url.ParseQuery(string(body))
			token := form.Get("refresh_token")
			if !o.begin(token) {
				oauthtest.Answer(http.StatusBadRequest, "application/json",
					`{"error":"invalid_grant","error_description":"token request is already being processed"}`)(nil).ServeHTTP(w, r)
				return
			}
			defer o.end(token)
			slow.ServeHTTP(w, r)
		})
	}
}

// inside makes trouble inside the processes.
func inside(what trouble, percent int) func(*world) error {
	return func(w *world) error { return errors.Join(w.plan.make(what, percent), w.wait(), w.plan.heal()) }
}

// moments calls f again and again, at moments and for a process of the schedule.
func moments(w *world, longest time.Duration, f func(i int) error) error {
	for end := time.Now().Add(period); time.Now().Before(end); {
		time.Sleep(time.Duration(w.rng.Int64N(int64(longest))))
		if err := f(w.rng.IntN(len(w.processes))); err != nil {
			return err
		}
	}
	return nil
}

func kills(w *world) error {
	return moments(w, 500*time.Millisecond, func(i int) error {
		w.kill(i, 0)
		return w.start(i)
	})
}

func restarts(w *world) error {
	return moments(w, 700*time.Millisecond, func(int) error {
		w.meet(1)
		w.provider.gate.set(true)
		time.Sleep(time.Duration(w.rng.Int64N(int64(700 * time.Millisecond))))
		w.provider.gate.set(false)
		return nil
	})
}

// clock is what processes find that start after the clock was set: the times of the
// record are off by as much, in the other direction. No process can be given a clock of
// its own that shows the time of day, and that is not needed: a Source compares the time
// only with times that it has written itself, to the record. It asks neither the
// provider's clock nor the time of a file, so setting the clock forward and setting the
// record back are the same to it. The one exception is that a temporary file that somebody
// left behind is removed when it is an hour old.
//
// A process that is running is another matter, because the clock that its timers follow
// cannot be set. TestTheClockIsSet of package transport is about those, and "suspended
// beyond the token's life" above is the sleep of a laptop.
func clock(off time.Duration) func(*world) error {
	return func(w *world) error {
		for i := range w.processes {
			w.end(i)
		}
		if err := w.user.shift(off); err != nil {
			return err
		}
		for i := range w.processes {
			if err := w.start(i); err != nil {
				return err
			}
		}
		w.meet(1)
		time.Sleep(period)
		return nil
	}
}

// versions looks for what the next version has stored. Half of the processes know
// nothing of it.
func versions(w *world) error {
	store, err := w.plan.store()
	if err != nil {
		return err
	}
	has := func() bool {
		data, _, err := store.Load(context.Background(), w.plan.key().Name())
		return err == nil && containsMember(data)
	}
	if err := w.until("the next version has stored something", has); err != nil {
		return err
	}
	w.meet(1)
	for end := time.Now().Add(period); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !has() {
			return errors.New("what the next version had stored is gone")
		}
	}
	return nil
}

// medley is one fault after the other.
func medley(w *world) error {
	single := single(w.keyring != nil)
	for range 3 {
		f := single[w.rng.IntN(len(single))]
		if f.disk || f.plain {
			continue
		}
		if f.name == frozenProvider { // One that was away before is only asked questions, which are not counted.
			begun := time.Now()
			if err := w.until("all processes work again", func() bool { return w.working(begun) }); err != nil {
				return err
			}
		}
		w.mu.Lock()
		w.result.Order = append(w.result.Order, time.Now().Format("15:04:05.000 ")+f.name)
		w.mu.Unlock()
		if err := f.run(w); err != nil {
			return err
		}
	}
	return nil
}
