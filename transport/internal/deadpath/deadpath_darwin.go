package deadpath

import (
	"syscall"
	"time"
)

const tcpConnDropTime = 0x80 // TCP_RXT_CONNDROPTIME of netinet/tcp.h, in seconds

func setUserTimeout(fd uintptr, d time.Duration) {
	syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpConnDropTime, int(d.Seconds()))
}
