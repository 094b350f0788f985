package tokencache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// A gate lets one in at a time, and nothing is kept of one that nobody uses.
func TestGates(t *testing.T) {
	var g gates
	counts := make([]int, 10)
	var work sync.WaitGroup
	for i := range 500 {
		work.Go(func() {
			leave, err := g.enter(t.Context(), fmt.Sprint(i%len(counts)))
			if err != nil {
				t.Error(err)
				return
			}
			counts[i%len(counts)]++ // which the race detector watches
			leave()
			leave()
		})
	}
	work.Wait()
	for i, n := range counts {
		if n != 50 {
			t.Errorf("gate %d: %d have entered, want 50", i, n)
		}
	}

	leave, err := g.enter(t.Context(), "held")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() { _, err := g.enter(ctx, "held"); given <- err }()
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("gave up with %v", err)
	}
	leave()
	if len(g.m) != 0 {
		t.Errorf("%d gates that nobody uses are kept", len(g.m))
	}
}
