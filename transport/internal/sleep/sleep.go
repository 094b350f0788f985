// Package sleep waits for time to pass.
package sleep

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A wait for an answer counts only the time in which this process ran. When a program that was
// stopped (Ctrl-Z, a paused container, a frozen machine, a laptop's sleep) goes on, all its
// timers fire at once, and what has arrived meanwhile has not been read yet: it is this process
// that was slow, not the provider.

// tick is the most that one reading of the clock counts for.
const tick = time.Second

// For sleeps for d, and reports whether ctx is still good.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Running sleeps until this process has run for d. It reports whether ctx is still good.
func Running(ctx context.Context, d time.Duration) bool {
	for d > 0 {
		step := min(d, tick)
		began := time.Now()
		if !For(ctx, step) {
			return false
		}
		if d -= step; time.Since(began) > step+tick {
			d = max(d, tick) // It was stopped: leave time to read what has come.
		}
	}
	return ctx.Err() == nil
}

// NewBackOff returns an exponential back-off with full jitter that never gives up.
func NewBackOff(initial, longest time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(initial),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1),
		backoff.WithMaxInterval(longest),
		backoff.WithMaxElapsedTime(0), // The default gives up after 15 minutes.
	)
}
