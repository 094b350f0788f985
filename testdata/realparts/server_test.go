package realparts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A server that does not end when it is told to is killed, and does not outlive its test.
func TestServerThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pid")
	s := &Server{t: t, what: "a server", command: func() (string, []string) {
		return "sh", []string{"-c", untilInput, "sh", "sh", "-c", `trap '' INT; echo $$ >"$1.new"; mv "$1.new" "$1"; while :; do sleep 0.1; done`, "sh", path}
	}, ready: func() error { _, err := os.Stat(path); return err }}
	s.run()
	pid, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	proc := filepath.Join("/proc", strings.TrimSpace(string(pid)))
	_, err = os.Stat(proc)
	Require(t, "processes in /proc", err)
	s.Stop()
	if _, err := os.Stat(proc); err == nil {
		t.Error("it goes on")
	}
}
