package faultstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// once is the program that README shows: it asks for the token, to see whether the user
// has to log in, makes one request, and ends.
func once(p plan) report {
	source, _, err := p.source(func(report) {})
	if err != nil {
		return failure(err)
	}
	if _, err := source.Token(context.Background()); errors.Is(err, transport.ErrLoginRequired) {
		return failure(err)
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{p.Origin}, Base: slowAPI{}})
	if err != nil {
		return failure(err)
	}
	if err := new(caller).get(&http.Client{Transport: rt}, p.API); err != nil {
		return failure(err)
	}
	return report{Calls: 1}
}

// A slowAPI lets the program end about when the provider has spent the refresh token.
type slowAPI struct{}

func (slowAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(200*time.Millisecond + rand.N(500*time.Millisecond))
	return http.DefaultTransport.RoundTrip(r)
}

// A program that makes one request and ends loses no login, whenever in the life of a
// token it runs, though the provider forgives nothing and takes its time. It need not
// close the Source.
func TestAProgramOfOneRequest(t *testing.T) {
	t.Parallel()
	const users, ttl = 8, 3 * time.Second
	runs, n := pick(2, 8, 25), seed(t)
	var mu sync.Mutex
	var counts oauthtest.Counts
	var wg sync.WaitGroup
	for i := range users {
		dir := t.TempDir()
		wg.Go(func() {
			w, err := newWorld(setup{dir: dir, policy: oauthtest.StrictFamily, ttl: ttl, latency: 600 * time.Millisecond, seed: [2]uint64{n, uint64(i)}})
			if err != nil {
				t.Error(err)
				return
			}
			plan := w.plan
			plan.Name, plan.Once = fmt.Sprint("user ", i), true
			for range runs {
				// Most often while the token is stale: then the refresh is in the background.
				time.Sleep(ttl/2 + time.Duration(w.rng.Int64N(int64(ttl/2))))
				cmd, err := plan.command()
				if err != nil {
					t.Error(err)
					break
				}
				var r report
				if out, err := cmd.Output(); err != nil || json.Unmarshal(out, &r) != nil {
					t.Errorf("the program ended with %v", err)
				}
				if r.Calls != 1 {
					t.Errorf("the program failed: %s", r.Failed)
				}
			}
			r := w.stop()
			for _, s := range r.Complaints {
				t.Error(s)
			}
			mu.Lock()
			defer mu.Unlock()
			counts.Rotations += r.Counts.Rotations
			counts.Reuses += r.Counts.Reuses
			counts.Assertions += r.Statements
			counts.RepeatedAssertions += r.Repeated
			counts.Proofs += r.Counts.Proofs
			if s := strayProofs(r.Counts); s != "" {
				t.Error(s)
			}
		})
	}
	wg.Wait()
	t.Logf("%d runs, %d rotations, %d reuses, %d proofs of possession", users*runs, counts.Rotations, counts.Reuses, counts.Proofs)
	if counts.Assertions == 0 && expected("key") || counts.RepeatedAssertions > 0 {
		t.Errorf("%d of %d statements about the client were sent twice", counts.RepeatedAssertions, counts.Assertions)
	}
	if counts.Proofs == 0 && expected("bound") {
		t.Error("no login was bound to a key")
	}
	if counts.Reuses > 0 || counts.Rotations < users*runs/5 {
		t.Errorf("%d rotations, %d reuses", counts.Rotations, counts.Reuses)
	}
}
