//go:build linux

package oskeyring

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// In a Flatpak only the directories of the application last: its home directory is
// another one each time it starts. The sandbox is what flatpak makes.
func TestFlatpak(t *testing.T) {
	bwrap, err := exec.LookPath("bwrap")
	realparts.Require(t, "sandboxes (Debian: apt-get install bubblewrap)", err)
	k := useKeyring(t)
	state := t.TempDir()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	run := func(do string) {
		t.Helper()
		order, err := json.Marshal(job{Do: do})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer info.Close()
		args := []string{"--tmpfs", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", home, "--file", "3", flatpakInfo, "--unshare-pid"}
		for _, dir := range []string{"/usr", "/lib", "/lib64", "/bin", "/etc", os.Args[0]} {
			args = append(args, "--ro-bind-try", dir, dir)
		}
		for _, kv := range k.Env {
			if dir, ok := strings.CutPrefix(kv, "XDG_RUNTIME_DIR="); ok { // with the bus
				args = append(args, "--bind", dir, dir)
			}
		}
		args = append(args, "--bind", state, state, os.Args[0], "-test.run=^$")
		cmd := k.Command(bwrap, args...)
		cmd.Env = append(cmd.Env, jobEnv+"="+string(order), "XDG_STATE_HOME="+state)
		cmd.ExtraFiles = []*os.File{info}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", do, err, out)
		}
	}
	run("login")
	run("use")
	if _, err := os.Stat(filepath.Join(state, "test", "stayauth", "entries")); err != nil {
		t.Error(err)
	}
}
