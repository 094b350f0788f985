package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// Root that has the HOME of another user, as sudo leaves it on some systems, neither reads nor
// makes anything there: that user would be locked out.
func TestRootInTheHomeOfAnotherUser(t *testing.T) {
	home := t.TempDir()
	root := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		if err := os.Chown(home, 1000, 1000); err != nil {
			t.Fatal(err)
		}
	} else { // Root of a name space of its own, to which what belongs to the real root is another user's.
		home = "/usr"
		root.Cloneflags = syscall.CLONE_NEWUSER
		root.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	run := func(env ...string) (int, string) {
		cmd := exec.Command("stayauth", "login", "-provider", "github", "-client-id", "x", "-store", "file", "-flow", "paste")
		cmd.Env = append(os.Environ(), append([]string{"HOME=" + home, "XDG_CONFIG_HOME=", "XDG_CACHE_HOME="}, env...)...)
		cmd.SysProcAttr = root
		out, err := cmd.CombinedOutput()
		if cmd.Process == nil {
			realparts.Require(t, "root, or the right to a user name space", err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if status, out := run(); status != exitUsage || !strings.Contains(out, "sudo -H") || !strings.Contains(out, "-dir") {
		t.Errorf("exit status %d: %s", status, out)
	}
	for _, name := range []string{".config", ".cache"} {
		if _, err := os.Lstat(filepath.Join(home, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	// What it advises is another matter.
	if status, out := run("STAYAUTH_DIR=" + t.TempDir()); status == exitUsage || strings.Contains(out, "sudo") {
		t.Errorf("with -dir: exit status %d: %s", status, out)
	}
}
