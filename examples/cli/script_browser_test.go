//go:build !darwin && !windows

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The browser is the test binary, found in PATH. On macOS and Windows, where no program is
// looked up there, a login would open the real one.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: setup(users, "file", nil), Cmds: scriptCommands, Condition: condition(t.TempDir())})
}
