package realparts

import (
	"fmt"
	"os/exec"
	"testing"
)

// Mount mounts a small file system in memory for the test, with options of tmpfs such as
// "size=256k", or skips the test for lack of the right to.
func Mount(t *testing.T, options string) (path string) {
	t.Helper()
	path = t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=700,"+options, "tmpfs", path).CombinedOutput()
	if err != nil {
		Require(t, "the right to mount a small file system", fmt.Errorf("%w: %s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", path).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return path
}
