package realparts

import (
	"crypto/fips140"
	"errors"
	"testing"
	"testing/synctest"
)

// Bubble runs f with simulated time. What f does may need random numbers, which FIPS mode
// seeds from the jitter of real time: then the test cannot run.
func Bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if fips140.Enabled() {
		Require(t, "another mode than FIPS 140-3", errors.New("there are no random numbers in simulated time"))
	}
	synctest.Test(t, f)
}
