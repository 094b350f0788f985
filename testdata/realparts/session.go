package realparts

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A session is a session bus with a home directory of its own.
type session struct {
	// Env is what the environment of a process must end with to use what is on this bus
	// and nothing else. It sets HOME too; a child that runs the go command also needs
	// GOCACHE and GOMODCACHE.
	Env []string

	home string
	bus  string // its address
}

// Everyone on the bus may talk to everyone, and there are no directories of services
// that the bus could start.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

func newSession(t testing.TB) *session {
	t.Helper()
	// Not t.TempDir, which can be too long for the path of a socket.
	home, err := os.MkdirTemp("", "keyring-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	for _, dir := range []string{"data/keyrings", "config", "cache", "run"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	bus := filepath.Join(home, "run", "bus")
	s := &session{home: home, bus: "unix:path=" + bus, Env: []string{
		"HOME=" + home,
		"XDG_DATA_HOME=" + filepath.Join(home, "data"),
		"XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
		"XDG_CACHE_HOME=" + filepath.Join(home, "cache"),
		"XDG_RUNTIME_DIR=" + filepath.Join(home, "run"),
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus,
		"GNOME_KEYRING_CONTROL=", "DISPLAY=", "WAYLAND_DISPLAY=",
	}}
	config := filepath.Join(home, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, bus), 0o600); err != nil {
		t.Fatal(err)
	}

	// The shell ends the bus when its standard input ends, and what is on the bus exits
	// when its bus does.
	busDaemon := s.Command("sh", "-c", `dbus-daemon --config-file="$1" --nofork --nopidfile & read -r _; kill $!; wait`, "sh", config)
	start(t, busDaemon)
	// The socket file is there a moment before anybody listens, and a keyring that is
	// refused then goes on without a bus.
	await(t, "the session bus", func() error {
		conn, err := net.Dial("unix", bus)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return s
}

// Command returns a command that uses this session.
func (s *session) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), s.Env...)
	return cmd
}

// A Screen is one without a person before it, and a keyboard.
type Screen struct {
	Display string
	t       testing.TB
}

// NewScreen starts a screen that ends with the test.
func NewScreen(t testing.TB) *Screen {
	t.Helper()
	for _, program := range []string{"Xvfb", "xdotool"} {
		_, err := exec.LookPath(program)
		Require(t, "a screen and a keyboard (Debian: apt-get install xvfb xdotool)", err)
	}
	server := exec.Command("sh", "-c", `Xvfb -displayfd 1 -nolisten tcp & read -r _; kill $!; wait`)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, server)
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("Xvfb did not start")
	}
	return &Screen{":" + lines.Text(), t}
}

// Await waits for a window that the search of xdotool finds, and gives it the keyboard.
func (s *Screen) Await(search ...string) {
	s.t.Helper()
	s.xdotool(append(append([]string{"search", "--sync", "--onlyvisible"}, search...), "windowfocus", "--sync")...)
}

// Count returns how many windows the search of xdotool finds.
func (s *Screen) Count(search ...string) int {
	cmd := exec.Command("xdotool", append([]string{"search", "--onlyvisible"}, search...)...)
	cmd.Env = append(os.Environ(), "DISPLAY="+s.Display)
	out, _ := cmd.Output() // It fails if there are none.
	return len(strings.Fields(string(out)))
}

// Press presses keys.
func (s *Screen) Press(keys ...string) {
	s.t.Helper()
	s.xdotool(append([]string{"key", "--delay", "20"}, keys...)...)
}

func (s *Screen) xdotool(args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "xdotool", args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+s.Display)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Errorf("xdotool %q: %v: %s", args, err, out)
	}
}
