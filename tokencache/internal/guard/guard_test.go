package guard

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errDown = errors.New("down")

func isDown(err error) bool { return !errors.Is(err, errAnswer) }

var errAnswer = errors.New("an answer, though not a pleasant one")

// Ten thousand callers make a handful of calls to a service that is down, whether it refuses
// them or hangs, and use it again within seconds when it is back.
func TestAServiceThatIsDownIsNotHammered(t *testing.T) {
	for name, hangs := range map[string]bool{"refuses": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g Guard
				var calls, inside, most, failed atomic.Int64
				back := time.Now().Add(10 * time.Minute)
				call := func(ctx context.Context) error {
					calls.Add(1)
					most.Store(max(most.Load(), inside.Add(1)))
					defer inside.Add(-1)
					if !time.Now().Before(back) {
						return nil
					}
					if hangs {
						<-ctx.Done()
						return ctx.Err()
					}
					return errDown
				}
				var wg sync.WaitGroup
				for range 10000 {
					wg.Go(func() {
						for {
							err := g.Do(t.Context(), 5*time.Second, "", call, isDown)
							if err == nil {
								break
							}
							failed.Add(1)
							time.Sleep(30 * time.Second)
						}
						if late := time.Since(back); late > time.Minute {
							t.Errorf("served %v after the service was back", late)
						}
					})
				}
				wg.Wait()
				during := calls.Load() - 10000
				if most := most.Load(); most > atOnce {
					t.Errorf("%d calls at once", most)
				}
				if during > 400 || failed.Load() < 190000 {
					t.Errorf("%d calls during the outage, in which callers asked %d times", during, failed.Load())
				}
			})
		})
	}
}

// What is wrong with one key, a caller that gives up, or a failure now and then is no outage
// for the others.
func TestWhatIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		do := func(ctx context.Context, fate string, call func(context.Context) error) error {
			return g.Do(ctx, time.Second, fate, call, isDown)
		}
		answer := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
		for range 10 {
			if err := do(t.Context(), "a disabled key", answer(errDown)); !errors.Is(err, errDown) {
				t.Error(err)
			}
			gone, cancel := context.WithCancel(t.Context())
			err := do(gone, "", func(ctx context.Context) error { cancel(); return ctx.Err() })
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if err := do(t.Context(), "", answer(errAnswer)); !errors.Is(err, errAnswer) {
				t.Error(err)
			}
			for range tolerated - 1 {
				do(t.Context(), "", answer(errDown))
			}
			if err := do(t.Context(), "", answer(nil)); err != nil {
				t.Error(err)
			}
		}
		for range 3 * mostFates { // somebody fills the store with rubbish
			for range tolerated + 1 {
				do(t.Context(), time.Now().String(), answer(errDown))
			}
			time.Sleep(time.Millisecond)
		}
		if len(g.outage) > mostFates {
			t.Errorf("%d outages are remembered", len(g.outage))
		}
	})
}
