//go:build !linux && !darwin && !windows

package endpoint

import "time"

// setUserTimeout does nothing: this system retransmits for as long as it likes, and an
// answer that does not come is given up by the endpoint.
func setUserTimeout(uintptr, time.Duration) {}
