package faultstest

import (
	"os"
	"testing"

	"github.com/stayauth/stayauth/transport/internal/testkit"
)

const account = "ann" // whose login it is

const (
	seedEnv = testkit.SeedEnv
	howEnv  = "STAYAUTH_FAULTS" // "full": everything
)

var (
	full = os.Getenv(howEnv) == "full"
	long = full || testkit.Pick(false, true)
)

// pick returns how much to do: in a short run, with every real part, and in a full run.
func pick[T any](short, real, all T) T {
	switch {
	case full:
		return all
	case long:
		return real
	}
	return short
}

// seed returns the seed of the schedules.
func seed(t *testing.T) uint64 {
	t.Helper()
	return testkit.Seed(t)
}
