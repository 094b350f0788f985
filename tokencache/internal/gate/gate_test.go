package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneAtATime(t *testing.T) {
	var g Gates
	var wg sync.WaitGroup
	inside := make([]int, 3) // each guarded by its gate: the race detector watches
	for i := range 300 {
		wg.Go(func() {
			leave, err := g.Enter(t.Context(), fmt.Sprint(i%3))
			if err != nil {
				t.Error(err)
				return
			}
			inside[i%3]++
			leave()
			leave()
		})
	}
	wg.Wait()
	if inside[0] != 100 || inside[1] != 100 || inside[2] != 100 {
		t.Errorf("inside were %d, want 100 each", inside)
	}
	if len(g.m) != 0 {
		t.Errorf("%d gates are left", len(g.m))
	}
}

func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gates
		leave, err := g.Enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Enter(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("entered while somebody was in: %v", err)
		}
		if _, err := g.Enter(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("entered with a context that is done: %v", err)
		}
		leave()
		if leave, err = g.Enter(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		leave()
		if len(g.m) != 0 {
			t.Errorf("%d gates are left", len(g.m))
		}
	})
}

func TestTryEnter(t *testing.T) {
	var g Gates
	leave, ok := g.TryEnter("a")
	if !ok {
		t.Fatal("nobody is in")
	}
	if _, ok := g.TryEnter("a"); ok {
		t.Error("entered while somebody was in")
	}
	leave()
	if leave, ok = g.TryEnter("a"); !ok {
		t.Fatal("nobody is in any more")
	}
	leave()
	if len(g.m) != 0 {
		t.Errorf("%d gates are left", len(g.m))
	}
}
