package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Output that cannot be written is no success, and a device that swallows it no terminal.
func TestOutputThatCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	tm := newTerminal(t)
	for _, args := range []string{"get " + tm.srv.APIURL(), "token", "status", "accounts", "help", "help get", "version", "completion bash"} {
		cmd := exec.Command("stayauth", strings.Fields(args)...)
		cmd.Env, cmd.Stdout = tm.environment(), full
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if cmd.Run(); cmd.ProcessState.ExitCode() != exitFailure || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%s: exit status %d: %s", args, cmd.ProcessState.ExitCode(), stderr.String())
		}
	}
}
