package realparts_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// A test process that is killed runs no cleanup. Its real parts end all the same, even one that
// was frozen.
func TestKilledTestLeavesNothingBehind(t *testing.T) {
	const child = "REALPARTS_TEST_CHILD"
	if os.Getenv(child) != "" {
		p, k, frozen := realparts.OIDCProvider(t), realparts.Keyring(t), realparts.StartRedis(t)
		frozen.Freeze()
		_, bus, _ := strings.Cut(strings.Join(k.Env, "\n"), "unix:path=")
		bus, _, _ = strings.Cut(bus, "\n")
		fmt.Println("ready", strings.TrimPrefix(p.Issuer, "http://"), bus, strings.TrimPrefix(frozen.URL(), "redis://"))
		select {}
	}
	// In this process they do skip, if need be.
	realparts.OIDCProvider(t)
	realparts.Keyring(t)
	realparts.StartRedis(t)

	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1", "TMPDIR="+t.TempDir())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var provider, bus, frozen string
	for lines := bufio.NewScanner(stdout); provider == "" && lines.Scan(); {
		fmt.Sscanf(lines.Text(), "ready %s %s %s", &provider, &bus, &frozen)
	}
	answers := func(network, address string) bool {
		conn, err := net.Dial(network, address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	if !answers("tcp", provider) || !answers("unix", bus) || !answers("tcp", frozen) {
		t.Fatalf("the child's parts do not run: %q %q %q", provider, bus, frozen)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); answers("tcp", provider) || answers("unix", bus) || answers("tcp", frozen); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still there: provider %t, bus %t, frozen server %t", answers("tcp", provider), answers("unix", bus), answers("tcp", frozen))
		}
	}
}
