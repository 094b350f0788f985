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

// A caller that waits checks whether that is still worthwhile, sooner in the beginning, and not
// when there is no need to wait.
func TestEnterUnless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gates
		enough := errors.New("enough")
		looks := 0
		look := func(context.Context) error {
			if looks++; looks == 20 {
				return enough
			}
			return nil
		}
		leave, err := g.EnterUnless(t.Context(), "a", look)
		if err != nil || looks != 0 {
			t.Fatalf("%d looks at an open gate, %v", looks, err)
		}
		begun := time.Now()
		if _, err := g.EnterUnless(t.Context(), "a", look); !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begun); took < 20*lookMin || took > 20*lookMax {
			t.Errorf("20 looks took %v", took)
		}
		looks = 100
		time.AfterFunc(10*time.Second, leave)
		begun = time.Now()
		if leave, err = g.EnterUnless(t.Context(), "a", look); err != nil || time.Since(begun) != 10*time.Second {
			t.Errorf("entered after %v, %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := g.EnterUnless(ctx, "a", look); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		leave()
		if len(g.m) != 0 {
			t.Errorf("%d gates are left", len(g.m))
		}
	})
}
