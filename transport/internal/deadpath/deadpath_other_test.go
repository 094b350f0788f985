//go:build !linux

package deadpath

import (
	"net"
	"testing"
)

func userTimeout(*testing.T, *net.TCPConn) int { return 0 }
