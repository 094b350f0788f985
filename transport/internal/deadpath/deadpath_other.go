//go:build !linux && !darwin && !windows

package deadpath

import "time"

// setUserTimeout does nothing: this system retransmits for as long as it likes, and the
// Endpoint gives up waiting for an answer that does not come.
func setUserTimeout(uintptr, time.Duration) {}
