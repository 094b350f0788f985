package tokencache_test

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// smallDisk mounts a file system of 256 KiB.
func smallDisk(t *testing.T) (path string) {
	t.Helper()
	path = t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", path).CombinedOutput()
	if err != nil {
		const why = "needs the right to mount a small file system: %v %s"
		if os.Getenv("STAYAUTH_REQUIRE") == "all" {
			t.Fatalf(why, err, out)
		}
		t.Skipf(why, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", path).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return path
}

// notAsRoot gives the calling goroutine the rights of nobody to files, until the
// test ends: root may do everything.
func notAsRoot(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Setfsuid(0) }) // and the thread ends with the goroutine
}
