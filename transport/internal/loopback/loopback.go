// Package loopback knows which hosts are this machine.
package loopback

import (
	"net/netip"
	"strings"
)

// Is reports whether host, without port or brackets, is this machine.
func Is(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
