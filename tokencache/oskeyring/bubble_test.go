package oskeyring

import (
	"crypto/fips140"
	"testing"
	"testing/synctest"
)

// bubble runs f with simulated time. FIPS mode seeds its random numbers from the
// jitter of real time, which simulated time does not have.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if fips140.Enabled() {
		t.Skip("there are no random numbers in simulated time in FIPS mode")
	}
	synctest.Test(t, f)
}
