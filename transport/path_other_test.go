//go:build !linux

package transport

import (
	"net"
	"testing"
)

func userTimeout(*testing.T, *net.TCPConn) int { return 0 }
