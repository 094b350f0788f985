// Package deadpath finds out that nobody is at the other end of a connection any more.
package deadpath

import (
	"net"
	"time"
)

// Watch lets the operating system find out within d when the other end of a connection is gone. A
// peer whose process is frozen or busy still has a kernel that acknowledges; behind a proxy it
// is the proxy's kernel.
func Watch(c net.Conn, d time.Duration) {
	for {
		inner, ok := c.(interface{ NetConn() net.Conn }) // TLS
		if !ok {
			break
		}
		c = inner.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	// While nothing is under way, keep-alive probes are sent after a third of that, and then
	// twice more. The errors do not matter: without probes the wait just takes longer.
	tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: d / 3, Interval: d / 3, Count: 2})
	if raw, err := tcp.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { setUserTimeout(fd, d) }) // for data that is not acknowledged
	}
}
