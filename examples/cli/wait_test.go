//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process that was stopped in the middle of a refresh has the login. Whoever logs out
// meanwhile is told which process that is, while the wait lasts, and is logged out when it
// goes on.
func TestWaitForAStoppedProcess(t *testing.T) {
	t.Parallel()
	tm := newTerminal(t)
	stopped, stderr := tm.start("token")
	if err := stopped.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer stopped.Process.Signal(syscall.SIGCONT)

	logout := exec.Command("stayauth", "logout", "-local")
	logout.Env = tm.environment()
	said, err := logout.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := logout.Start(); err != nil {
		t.Fatal(err)
	}
	defer logout.Process.Kill()
	lines := bufio.NewScanner(said)
	begun := time.Now()
	if !lines.Scan() {
		t.Fatal("it ended without a word")
	}
	if want := fmt.Sprintf("process %d", stopped.Process.Pid); !strings.Contains(lines.Text(), want) || time.Since(begun) > 20*time.Second {
		t.Errorf("said after %v, without %q: %s", time.Since(begun), want, lines.Text())
	}
	if err := stopped.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := stopped.Wait(); err != nil {
		t.Errorf("the stopped process: %v\n%s", err, stderr)
	}
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := logout.Wait(); err != nil {
		t.Errorf("the logout: %v", err)
	}
	if c := tm.srv.Counts(); c.Reuses != 0 {
		t.Errorf("%+v", c)
	}
}
