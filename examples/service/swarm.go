package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A swarm is the replicas and those who ask them.
type swarm struct {
	config   config
	program  string // of the replicas; default: this one
	accounts []string
	ledger   *ledger
	vary     func(*config) (program string) // makes a replica differ from the others; nil: none does
	watch    func(call)                     // is told of each request that was answered; nil: nobody is

	mu       sync.Mutex
	replicas []*replica
	started  int
	killed   int

	requests, late atomic.Int64
	asking         sync.Map  // requests that are not answered yet, and since when
	failures       []failure // guarded by mu
}

// A call is a request that was answered.
type call struct {
	account string
	begun   time.Time
	took    time.Duration
	status  int
	failed  *failure // nil: it has not
}

// A failure is a request that was not answered as it should be.
type failure struct {
	at   time.Time
	text string
	good bool // although the replica had a token that was good all the while
}

func (s *swarm) add() error {
	s.mu.Lock()
	s.started++
	c, program := s.config, s.program
	c.Replica = s.started
	s.mu.Unlock()
	if s.vary != nil {
		program = cmp.Or(s.vary(&c), program)
	}
	r, err := startReplica(program, c)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.replicas = append(s.replicas, r)
	}
	return err
}

// deploy replaces the replicas one after the other, by those of another program or with
// another configuration. Each old one finishes what it does.
func (s *swarm) deploy(program string, c config) error {
	s.mu.Lock()
	s.program, s.config = program, c
	old := slices.Clone(s.replicas)
	s.mu.Unlock()
	for _, r := range old {
		if err := s.add(); err != nil {
			return err
		}
		if !s.remove(r) {
			continue // It was killed meanwhile.
		}
		if err := r.stop(); err != nil {
			return err
		}
	}
	return nil
}

// remove reports whether the replica was there.
func (s *swarm) remove(r *replica) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	there := slices.Contains(s.replicas, r)
	s.replicas = slices.DeleteFunc(slices.Clone(s.replicas), func(other *replica) bool { return other == r })
	return there
}

// take returns one of the replicas, which is asked for nothing any more.
func (s *swarm) take(which int) *replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := which % len(s.replicas)
	r := s.replicas[i]
	s.replicas = append(s.replicas[:i:i], s.replicas[i+1:]...)
	return r
}

// crash kills a replica that was taken.
func (s *swarm) crash(r *replica) {
	s.mu.Lock()
	s.killed++
	s.mu.Unlock()
	s.ledger.kills(r.number)
	r.kill()
}

// load sends requests to the replicas until ctx is done, and kills one now and then.
func (s *swarm) load(ctx context.Context, o options) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ask := make(<-chan time.Time)
	if o.rate > 0 {
		ticker := time.NewTicker(time.Second / time.Duration(o.rate))
		defer ticker.Stop()
		ask = ticker.C
	}
	kill := make(<-chan time.Time)
	if o.kill > 0 {
		ticker := time.NewTicker(o.kill)
		defer ticker.Stop()
		kill = ticker.C
	}
	replaced := make(chan error, 1)
	slots := make(chan struct{}, 256) // requests in flight
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-replaced:
			if err != nil {
				return err
			}
		case <-kill:
			victim := s.take(mathrand.Int())
			wg.Go(func() {
				s.crash(victim)
				select {
				case replaced <- s.add():
				case <-ctx.Done():
				}
			})
		case <-ask:
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				s.ask(s.accounts[mathrand.IntN(len(s.accounts))])
			})
		}
	}
}

// ask sends a request in the name of the account. A load balancer would try another
// replica if one does not accept connections, or dies; so does ask.
func (s *swarm) ask(account string) {
	request, begun := s.requests.Add(1), time.Now()
	s.asking.Store(request, begun)
	defer s.asking.Delete(request)
	for {
		s.mu.Lock()
		if len(s.replicas) == 0 {
			s.mu.Unlock()
			return
		}
		r := s.replicas[mathrand.IntN(len(s.replicas))]
		s.mu.Unlock()
		resp, err := http.Get(r.url + "/" + account)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		resp.Body.Close()
		c := call{account: account, begun: begun, took: time.Since(begun), status: resp.StatusCode}
		if resp.StatusCode == http.StatusUnauthorized {
			s.late.Add(1)
		} else if resp.StatusCode != http.StatusOK {
			now := time.Now()
			c.failed = &failure{now, fmt.Sprintf("%d: %s", resp.StatusCode, body), now.Before(r.goodUntil(account))}
			s.mu.Lock()
			s.failures = append(s.failures, *c.failed)
			s.mu.Unlock()
		} else {
			r.served(account, resp.Header.Get(goodUntil))
		}
		if s.watch != nil {
			s.watch(c)
		}
		return
	}
}

func (s *swarm) stopAll() error {
	s.mu.Lock()
	all := s.replicas
	s.replicas = nil
	s.mu.Unlock()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, r := range all {
		wg.Go(func() { errs[i] = r.stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *swarm) killAll() {
	for _, r := range s.replicas {
		r.kill()
	}
}
