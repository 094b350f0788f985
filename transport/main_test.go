package transport_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stayauth/stayauth/transport/internal/testkit"
)

func TestMain(m *testing.M) {
	if plan := os.Getenv(callerEnv); plan != "" {
		if err := callAPI(plan); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testkit.Main(m)
}
