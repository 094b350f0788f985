package realparts

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// A LocalKMS is a running emulator of AWS KMS, of the region eu-west-1 and the account
// 111122223333. It lets everybody do everything. Its keys survive Stop, Crash and Start.
type LocalKMS struct {
	Server
}

// StartLocalKMS starts an emulator that ends with the test.
func StartLocalKMS(t testing.TB) *LocalKMS {
	t.Helper()
	const what = "Local KMS (built from its source)"
	_, err := exec.LookPath("sh")
	Require(t, what, err)
	program, err := localKMSServer()
	Require(t, what, err)
	port := FreePort(t)
	args := []string{"-u", "GODEBUG", "sh", "-c", untilInput, "sh", program, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), filepath.Join(t.TempDir(), "keys")}
	k := &LocalKMS{Server{Port: port, t: t, what: "Local KMS", stop: "TERM", crash: "KILL",
		command: func() (string, []string) { return "env", args },
		ready:   func() error { return dial(port) },
	}}
	k.run()
	return k
}

// URL is the endpoint of the API.
func (k *LocalKMS) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", k.Port) }
