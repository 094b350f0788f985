package deadpath

import (
	"net"
	"syscall"
	"testing"
)

func userTimeout(t *testing.T, c *net.TCPConn) (ms int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { ms, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout) })
	if err != nil {
		t.Fatal(err)
	}
	return ms
}
