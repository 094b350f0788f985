package connecttest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

func TestMain(m *testing.M) {
	if conf, ok := os.LookupEnv(replicaEnv); ok {
		if err := replicaMain(conf); err != nil {
			fmt.Fprintln(os.Stderr, "replica:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A size is how much is done.
type size struct {
	replicas, users int
	kills           int // in the middle of the exchange of a code
}

func sizeOfRun() size {
	if os.Getenv("STAYAUTH_FAULTS") == "full" {
		return size{32, 1000, 48}
	}
	return size{4, 50, 6}
}

// seed returns the seed of what the users and the killer do.
func seed(t *testing.T) uint64 {
	const env = "STAYAUTH_FAULTS_SEED"
	n := rand.Uint64()
	if s := os.Getenv(env); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", env, err)
		}
	}
	t.Logf("%s=%d", env, n)
	return n
}
