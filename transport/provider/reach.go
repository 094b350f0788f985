package provider

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/stayauth/stayauth/transport/internal/loopback"
)

// A reach says how far addresses may lead that a server on the network has named, and not the
// program. Somebody else's API must not have the program send requests to what only the program
// can reach: this machine, the network around it, the metadata service of a cloud (RFC 9728
// section 7.7).
type reach int

const (
	anywhere    reach = iota // The program itself has named them.
	publicOnly               // An API has.
	loopbackToo              // An API on this machine has.
	evenPrivate              // An API has, and the program allows it everything.
)

// strictly reports whether somebody else has named the address.
func (r reach) strictly() bool { return r != anywhere }

// refusesHost reports whether host, a name or an address, is one that must not be asked. What a
// name stands for is seen when it is dialed.
func (r reach) refusesHost(host string) bool {
	if loopback.Is(host) {
		return r == publicOnly
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && r.refuses(ip)
}

func (r reach) refuses(ip netip.Addr) bool {
	switch r {
	case publicOnly:
		return !isPublic(ip)
	case loopbackToo:
		return !isPublic(ip) && !ip.Unmap().IsLoopback()
	}
	return false
}

var errPrivate = errors.New("an address on this machine or in a private network")

func privateAddress() error {
	return refused("if you trust this API with your network, set Discovery.InsecurePrivateAddresses", errPrivate)
}

// transport returns what sends req, unless the program has a Base: it dials no address that is
// refused, whatever a name stands for at that moment. A proxy resolves names itself, and decides
// itself.
func (r reach) transport(req *http.Request) http.RoundTripper {
	usual, ok := http.DefaultTransport.(*http.Transport)
	if !ok || r == anywhere || r == evenPrivate {
		return http.DefaultTransport
	}
	if usual.Proxy != nil {
		if proxy, err := usual.Proxy(req); proxy != nil || err != nil {
			return usual
		}
	}
	t := usual.Clone()
	t.Proxy, t.DialTLSContext = nil, nil
	t.DisableKeepAlives = true // Nothing is left of it after the request.
	t.DialContext = (&net.Dialer{Timeout: metadataTimeout, KeepAlive: time.Minute, Control: r.control}).DialContext
	return t
}

// control is called with each address before it is connected to.
func (r reach) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || r.refuses(to.Addr()) {
		return errPrivate
	}
	return nil
}

// isPublic reports whether an address is one of the public network. Those that stand for an IPv4
// address are judged by that.
func isPublic(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, special := range [...]string{ // RFC 6890 and its registries
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "fec0::/10",
	} {
		if netip.MustParsePrefix(special).Contains(ip) {
			return false
		}
	}
	b := ip.AsSlice()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(ip): // NAT64, RFC 6052
		b = b[12:]
	case netip.MustParsePrefix("2002::/16").Contains(ip): // 6to4, RFC 3056
		b = b[2:6]
	default:
		return true
	}
	v4, ok := netip.AddrFromSlice(b)
	return ok && isPublic(v4)
}
