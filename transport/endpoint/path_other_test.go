//go:build !linux

package endpoint

import (
	"net"
	"testing"
)

func userTimeout(*testing.T, *net.TCPConn) int { return 0 }
