//go:build linux

package oskeyring

import (
	"encoding/json"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// A sandbox is where a process finds nothing but what belongs to the system, the bus of
// a keyring, and a home directory that is another one each time.
type sandbox struct {
	t     *testing.T
	bwrap string
	k     *realparts.SecretService
	home  string // in the user database
}

func newSandbox(t *testing.T) *sandbox {
	t.Helper()
	bwrap, err := exec.LookPath("bwrap")
	if err == nil {
		err = exec.Command(bwrap, "--ro-bind", "/", "/", "true").Run()
	}
	realparts.Require(t, "sandboxes (Debian: apt-get install bubblewrap)", err)
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return &sandbox{t, bwrap, useKeyring(t), u.HomeDir}
}

// run runs a child with more arguments for bwrap, and more variables.
func (s *sandbox) run(do string, args []string, env ...string) {
	s.t.Helper()
	if out, err := s.try(job{Do: do}, args, env...); err != nil {
		s.t.Fatalf("%s: %v\n%s", do, err, out)
	}
}

// try does the same, and returns how it ended and what it said.
func (s *sandbox) try(j job, args []string, env ...string) (out string, err error) {
	s.t.Helper()
	order, err := json.Marshal(j)
	if err != nil {
		s.t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		s.t.Fatal(err)
	}
	defer null.Close()
	all := []string{"--tmpfs", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", s.home, "--unshare-pid"}
	for _, dir := range []string{"/usr", "/lib", "/lib64", "/bin", "/etc", os.Args[0]} {
		all = append(all, "--ro-bind-try", dir, dir)
	}
	for _, kv := range s.k.Env {
		if dir, ok := strings.CutPrefix(kv, "XDG_RUNTIME_DIR="); ok { // with the bus
			all = append(all, "--bind", dir, dir)
		}
	}
	all = append(append(all, args...), os.Args[0], "-test.run=^$")
	cmd := s.k.Command(s.bwrap, all...)
	cmd.Env = append(append(cmd.Env, jobEnv+"="+string(order)), env...)
	cmd.ExtraFiles = []*os.File{null}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer stdin.Close()
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// In a Flatpak only the directories of the application last: its home directory is
// another one each time it starts. The sandbox is what flatpak makes.
func TestFlatpak(t *testing.T) {
	s, state := newSandbox(t), t.TempDir()
	args := []string{"--file", "3", flatpakInfo, "--bind", state, state}
	s.run("login", args, "XDG_STATE_HOME="+state)
	s.run("use", args, "XDG_STATE_HOME="+state)
	if _, err := os.Stat(filepath.Join(state, "test", "stayauth", "entries")); err != nil {
		t.Error(err)
	}
}

// A snap, and a service of systemd with DynamicUser or ProtectHome, may not write to the
// home directory. That is said before the login, and what to set; then logins last.
func TestHomeThatCannotBeWritten(t *testing.T) {
	s, empty, own := newSandbox(t), t.TempDir(), t.TempDir()
	args := []string{"--ro-bind", empty, s.home, "--bind", own, own}
	if out, err := s.try(job{Do: "login"}, args); err == nil || !strings.Contains(out, "Config.Dir") {
		t.Errorf("%v: %s", err, out)
	}
	for _, do := range []string{"login", "use", "use"} {
		if out, err := s.try(job{Do: do, Dir: own}, args); err != nil {
			t.Errorf("%s: %v: %s", do, err, out)
		}
	}
}

// What earlier versions have written, in the usual directory and in a real keyring, is
// read, and written anew.
func TestUpgrade(t *testing.T) {
	fixtures, err := filepath.Glob("testdata/upgrade/*/login.keyring")
	if err != nil || len(fixtures) == 0 {
		t.Fatal(fixtures, err)
	}
	for _, keyring := range fixtures {
		dir := filepath.Dir(keyring)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			s, state := newSandbox(t), t.TempDir()
			logins := filepath.Join(state, "test", "stayauth")
			copyState(t, logins, filepath.Join(dir, "state"))
			s.k.Kill()
			data, err := os.ReadFile(keyring)
			if err != nil {
				t.Fatal(err)
			}
			for _, kv := range s.k.Env {
				if dir, ok := strings.CutPrefix(kv, "XDG_DATA_HOME="); ok {
					if err := os.WriteFile(filepath.Join(dir, "keyrings", "login.keyring"), data, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			s.k.Start()
			args := []string{"--bind", state, filepath.Join(s.home, ".local", "state")}
			s.run("upgrade", args)
			s.run("upgrade", args)
		})
	}
}

// copyState makes a directory of logins out of a fixture.
func copyState(t *testing.T, to, from string) {
	t.Helper()
	err := os.CopyFS(to, os.DirFS(from))
	if err == nil {
		err = filepath.Walk(to, func(path string, info os.FileInfo, err error) error {
			if err == nil {
				err = os.Chmod(path, map[bool]os.FileMode{true: 0o700, false: 0o600}[info.IsDir()])
			}
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Who fell back to a key file with an earlier version stays logged in, while the keyring
// is locked and when it answers.
func TestUpgradeOfAFallback(t *testing.T) {
	k := useKeyring(t)
	dir := filepath.Join(t.TempDir(), "logins")
	copyState(t, dir, "testdata/upgrade/fallback/state")
	accept := []KeyChoice{Keyring(), KeyFile("")}
	k.Lock()
	for _, place := range []string{"key file", "OS keyring", "OS keyring"} {
		cache, info := mustOpen(t, another(realConfig(dir)).accepting(accept))
		if info.Key != place {
			t.Errorf("%+v, want the %s", info, place)
		}
		r, v, err := cache.Load(t.Context(), testKey)
		if err == nil && r.RefreshToken != "fixture-refresh" {
			t.Fatal("it is another login")
		}
		if err == nil {
			r.Generation++
			_, err = cache.Save(t.Context(), testKey, r, v)
		}
		if err != nil {
			t.Fatal(err)
		}
		k.Unlock()
	}
	cache, _ := mustOpen(t, another(realConfig(dir)))
	wantLoad(t, cache)
}
