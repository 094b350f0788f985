package faultstest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

const account = "ann" // whose login it is

const (
	seedEnv = "STAYAUTH_FAULTS_SEED"
	howEnv  = "STAYAUTH_FAULTS" // "full": everything
)

var (
	full = os.Getenv(howEnv) == "full"
	long = full || os.Getenv("STAYAUTH_REQUIRE") == "all"
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
	n := rand.Uint64()
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedEnv, err)
		}
	}
	t.Logf("%s=%d", seedEnv, n)
	return n
}
