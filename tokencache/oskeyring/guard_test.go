package oskeyring

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

func (f *fake) keyring(onPrompt func()) *keyring {
	return &keyring{backend: f, guard: new(guard), service: "s", timeout: 5 * time.Second, promptTimeout: time.Minute, onPrompt: onPrompt}
}

func TestCallThatHangs(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{before: func(string, string) error { <-release; return nil }}
		k := f.keyring(nil)
		start := time.Now()
		_, err := k.get(t.Context(), "u", optional)
		wantProblem(t, err, NoAnswer)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("took %v", d)
		}
		// While it hangs, calls fail at once, and none is started.
		before := runtime.NumGoroutine()
		for range 100 {
			start = time.Now()
			_, err := k.get(t.Context(), "u", optional)
			wantProblem(t, err, NoAnswer)
			if d := time.Since(start); d != 0 {
				t.Fatalf("took %v", d)
			}
		}
		if f.gets.Load() != 1 || runtime.NumGoroutine() > before {
			t.Errorf("%d calls were started, %d goroutines, %d before", f.gets.Load(), runtime.NumGoroutine(), before)
		}
		// When it has returned, the keyring is used again.
		close(release)
		synctest.Wait()
		if _, err := k.get(t.Context(), "u", optional); err != nil {
			t.Error(err)
		}
	})
}

func TestCallersQueue(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		var inside atomic.Int64
		f := &fake{before: func(string, string) error {
			if inside.Add(1) > 1 {
				t.Error("two calls at a time")
			}
			time.Sleep(time.Second)
			inside.Add(-1)
			return nil
		}}
		k := f.keyring(nil)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := k.get(t.Context(), "u", optional); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if f.gets.Load() != 20 {
			t.Errorf("%d calls", f.gets.Load())
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		f := &fake{before: func(string, string) error { time.Sleep(3 * time.Second); return nil }}
		k := f.keyring(nil)
		for range 2 { // as the one who calls, and as one who waits for a turn
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := k.get(ctx, "u", optional)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %v, want DeadlineExceeded", err)
			}
		}
		// The call was not overdue, so others still take their turn.
		if _, err := k.get(t.Context(), "u", optional); err != nil {
			t.Fatal(err)
		}
		if f.gets.Load() != 2 {
			t.Errorf("%d calls, want the first and the last", f.gets.Load())
		}
	})
}

func TestCallThatPanics(t *testing.T) {
	var nilMap map[string]int
	for _, f := range []func(string, string) error{
		func(string, string) error { panic("a secret") },
		func(string, string) error { nilMap["x"] = 1; return nil },
	} {
		k := (&fake{before: f}).keyring(nil)
		for range 2 {
			_, err := k.get(t.Context(), "u", optional)
			wantProblem(t, err, Failed)
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows what was panicked with: %v", err)
			}
		}
	}
}

func TestPromptIsSharedAndShownOnce(t *testing.T) {
	for _, answer := range []error{nil, &Error{Locked, errors.New("dismissed")}} {
		realparts.Bubble(t, func(t *testing.T) {
			f := &fake{prompting: func(ctx context.Context) error {
				select {
				case <-time.After(30 * time.Second):
					return answer
				case <-ctx.Done():
					return ctx.Err()
				}
			}}
			f.locked.Store(true)
			var waiting atomic.Int64
			k := f.keyring(func() { waiting.Add(1) })
			check := func(err error) {
				if answer == nil && err != nil || answer != nil && !isProblem(err, Locked) {
					t.Errorf("the user answered %v, the caller got %v", answer, err)
				}
			}
			var wg sync.WaitGroup
			wg.Go(func() { // a caller who gives up takes the prompt from nobody
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := k.get(ctx, "u", optional); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v, want DeadlineExceeded", err)
				}
			})
			synctest.Wait() // now he is the one who asks
			for range 20 {
				wg.Go(func() { _, err := k.get(t.Context(), "u", optional); check(err) })
			}
			wg.Wait()
			_, err := k.get(t.Context(), "u", optional)
			check(err)
			f.locked.Store(true) // by the screen saver
			_, err = k.get(t.Context(), "u", optional)
			wantProblem(t, err, Locked)
			if f.prompts.Load() != 1 || waiting.Load() != 1 {
				t.Errorf("%d prompts, %d callbacks", f.prompts.Load(), waiting.Load())
			}
		})
	}
}

func TestPromptThatNobodyAnswers(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		f := &fake{prompting: func(ctx context.Context) error { <-ctx.Done(); return &Error{Locked, errors.New("nobody")} }}
		f.locked.Store(true)
		k := f.keyring(func() {})
		start := time.Now()
		_, err := k.get(t.Context(), "u", optional)
		wantProblem(t, err, Locked)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("took %v", d)
		}
	})
}

func TestNoPromptUnlessAsked(t *testing.T) {
	f := new(fake)
	f.locked.Store(true)
	_, err := f.keyring(nil).get(t.Context(), "u", optional)
	wantProblem(t, err, Locked)
	if f.prompts.Load() != 0 || f.gets.Load() != 0 {
		t.Error("the keyring was asked")
	}
}

// On macOS a prompt shows only in that the call takes long.
func TestHiddenPrompt(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		answered := 20 * time.Second
		f := &fake{hides: true, before: func(string, string) error { time.Sleep(answered); return nil }}
		var waiting atomic.Int64
		k := f.keyring(func() { waiting.Add(1) })
		start := time.Now()
		if _, err := k.get(t.Context(), "u", optional); err != nil || waiting.Load() != 1 || time.Since(start) != answered {
			t.Fatalf("%v after %v, %d callbacks", err, time.Since(start), waiting.Load())
		}
		// The next call gets no more time.
		_, err := k.get(t.Context(), "u", optional)
		wantProblem(t, err, NoAnswer)
		if waiting.Load() != 1 {
			t.Errorf("%d callbacks", waiting.Load())
		}
		time.Sleep(answered)
	})
}

// Somebody who asks nobody does not wait for the person whom another has asked.
func TestHiddenPromptOfAnother(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		f := &fake{hides: true, before: func(string, string) error { time.Sleep(30 * time.Second); return nil }}
		asks, silent := f.keyring(func() {}), f.keyring(nil)
		silent.guard = asks.guard
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := asks.get(t.Context(), "u", optional); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		start := time.Now()
		_, err := silent.get(t.Context(), "u", optional)
		wantProblem(t, err, NoAnswer)
		if d := time.Since(start); d != silent.timeout {
			t.Errorf("took %v", d)
		}
		wg.Wait()
	})
}

func TestProbeIsBounded(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		g := new(guard)
		waiting := func() {}
		// Whether the keyring hangs, or somebody else's call waits for a person.
		for _, f := range []*fake{{}, {hides: true}} {
			f.before = func(string, string) error { <-release; return nil }
			if f.hides {
				k := f.keyring(waiting)
				k.guard = g
				go k.get(t.Context(), "u", optional)
				synctest.Wait()
			}
			start := time.Now()
			wantProblem(t, probe(t.Context(), f, g), NoAnswer)
			if d := time.Since(start); d != 5*time.Second {
				t.Errorf("took %v", d)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := probe(ctx, f, g); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want Canceled", err)
			}
			release <- struct{}{}
			synctest.Wait()
		}
	})
}
