package realparts

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Nobody else gets the port of a server that has not been started yet, or not again: neither
// what the system gives a port to, nor a test of another process.
func TestFreePort(t *testing.T) {
	const child = "REALPARTS_TEST_PORT"
	if taken := os.Getenv(child); taken != "" {
		for range 50 {
			if strconv.Itoa(FreePort(t)) == taken {
				t.Error("two tests have got one port")
			}
		}
		return
	}
	port := FreePort(t)
	if low, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		first, err := strconv.Atoi(strings.Fields(string(low))[0])
		if err != nil {
			t.Fatal(err)
		}
		if port >= first {
			t.Errorf("the system gives ports from %d on to everybody, and %d is one", first, port)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"="+strconv.Itoa(port))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
