package deadpath

import (
	"syscall"
	"time"
)

const tcpMaxRT = 5 // TCP_MAXRT of ws2ipdef.h, in seconds

func setUserTimeout(fd uintptr, d time.Duration) {
	syscall.SetsockoptInt(syscall.Handle(fd), syscall.IPPROTO_TCP, tcpMaxRT, int(d.Seconds()))
}
