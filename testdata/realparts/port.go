package realparts

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The ports from which FreePort chooses. Systems hand out higher ones by themselves: from
// 32768 on Linux, from 49152 elsewhere. A server that is started, or started again, would find
// that the test of another package has got its port in the meantime.
const (
	lowestPort  = 20000
	highestPort = 32767
)

// FreePort returns a port of 127.0.0.1 on which nobody listens, and that no other test gets
// until this one ends, in whichever process it runs.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := lowestPort + rand.N(highestPort-lowestPort+1)
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		// The servers speak TCP. Who has the port for UDP has the right to it, until the process
		// has ended.
		right, err := net.ListenPacket("udp4", address)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp4", address)
		if err != nil {
			right.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { right.Close() })
		return port
	}
	t.Fatal("no port is free")
	return 0
}
