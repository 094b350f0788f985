package realparts

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// start starts cmd, which exits when its standard input ends, and ends it that way with
// the test. The other end of that pipe is held by this process alone, so the part does
// not outlive it however it dies.
func start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		stuck := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		cmd.Wait()
	})
}

// stop asks cmd to end, and waits for that, unless it asks a person something instead.
func stop(cmd *exec.Cmd) {
	cmd.Process.Signal(syscall.SIGTERM)
	stuck := time.AfterFunc(3*time.Second, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	cmd.Wait()
}
