//go:build linux

package oskeyring

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// A desktop is a screen on which the real keyring shows real prompts.
type desktop struct {
	t       *testing.T
	display string
}

// newDesktop starts one for the keyring k.
func newDesktop(t *testing.T, k *realparts.SecretService) *desktop {
	t.Helper()
	for _, program := range []string{"Xvfb", "xdotool"} {
		_, err := exec.LookPath(program)
		realparts.Require(t, "a screen and a keyboard (Debian: apt-get install xvfb xdotool)", err)
	}
	var prompter string
	for _, pattern := range []string{"/usr/libexec/gcr-prompter", "/usr/lib*/gcr-prompter", "/usr/lib/*/gcr-prompter"} {
		if found, _ := filepath.Glob(pattern); prompter == "" && len(found) > 0 {
			prompter = found[0]
		}
	}
	var err error
	if prompter == "" {
		err = exec.ErrNotFound
	}
	realparts.Require(t, "the prompts of GNOME Keyring (Debian: apt-get install gcr)", err)

	run := func(cmd *exec.Cmd) {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	}
	server := exec.Command("Xvfb", "-displayfd", "1", "-nolisten", "tcp")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	run(server)
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("Xvfb did not start")
	}
	d := &desktop{t, ":" + lines.Text()}
	show := k.Command(prompter)
	show.Env = append(show.Env, "DISPLAY="+d.display)
	run(show)
	conn, err := dbus.SessionBus()
	if err != nil {
		t.Fatal(err)
	}
	for deadline, up := time.Now().Add(patience), false; !up; time.Sleep(10 * time.Millisecond) {
		err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, "org.gnome.keyring.SystemPrompter").Store(&up)
		if err != nil || time.Now().After(deadline) {
			t.Fatal("the prompter did not start:", err)
		}
	}
	return d
}

// press waits for a prompt and presses keys.
func (d *desktop) press(keys ...string) {
	d.xdotool("search", "--sync", "--onlyvisible", "--class", "prompter", "windowfocus", "--sync")
	d.xdotool(append([]string{"key", "--delay", "20"}, keys...)...)
}

func (d *desktop) xdotool(args ...string) {
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "xdotool", args...)
	cmd.Env = append(cmd.Environ(), "DISPLAY="+d.display)
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Errorf("xdotool %q: %v: %s", args, err, out)
	}
}

// unlock types the password of the keyring.
func (d *desktop) unlock() {
	d.press(append(strings.Split("password", ""), "Return")...)
}

// lockedDesktop starts a keyring that is locked, and a desktop to unlock it on. The
// prompter exits after a prompt, so it is good for one.
func lockedDesktop(t *testing.T) *desktop {
	k := useKeyring(t)
	d := newDesktop(t, k)
	k.Lock()
	return d
}

func TestDesktopNobodyAnswers(t *testing.T) {
	lockedDesktop(t)
	nobodyAnswers(t)
}

func TestDesktopUserRefuses(t *testing.T) {
	d := lockedDesktop(t)
	var wg sync.WaitGroup
	_, err := realKeyring(patience, patience, func() { wg.Go(func() { d.press("Escape") }) }).get(t.Context(), "u", optional)
	wg.Wait()
	wantProblem(t, err, Locked)
	if !strings.Contains(err.Error(), "dismissed") {
		t.Error(err)
	}
}

func TestDesktopUserUnlocks(t *testing.T) {
	d := lockedDesktop(t)
	var wg sync.WaitGroup
	var prompts atomic.Int64
	k := realKeyring(patience, patience, func() { prompts.Add(1); wg.Go(d.unlock) })
	for range 20 {
		wg.Go(func() {
			if _, err := k.get(t.Context(), "u", optional); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if prompts.Load() != 1 {
		t.Errorf("%d prompts", prompts.Load())
	}
}
