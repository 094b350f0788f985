//go:build !linux

package tokencache_test

import "testing"

func smallDisk(t *testing.T) string {
	t.Skip("needs Linux, where a small file system can be mounted")
	return ""
}

func notAsRoot(t *testing.T) {
	t.Helper()
	t.Skip("root may do everything")
}
