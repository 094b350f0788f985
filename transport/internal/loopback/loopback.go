// Package loopback is the one rule about plain http: what must not be read on the way,
// such as a token, a code or a secret, goes over TLS or does not leave this machine.
package loopback

import (
	"net/netip"
	"net/url"
	"strings"
)

// Is reports whether host, without port and brackets, is this machine: localhost or a loopback
// address (RFC 8252 section 8.3). No other name is, not even one below localhost (RFC 6761
// section 6.3), because not every resolver keeps those local.
func Is(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// OrTLS reports whether nobody on the way to u can read what is sent there: its scheme is
// https, or its scheme is http and its host is this machine.
func OrTLS(u *url.URL) bool {
	switch strings.ToLower(u.Scheme) {
	case "https":
		return u.Hostname() != ""
	case "http":
		return Is(u.Hostname())
	}
	return false
}

// Problem returns what to do about an endpoint's URL that secrets must not be sent to, or "".
// It does not quote the URL, which may hold a password.
func Problem(raw string) (remedy string) {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return "set it: it is in the provider's documentation or metadata"
	case err != nil || u.Hostname() == "":
		return "use an absolute URL, such as https://login.example.com/path"
	case u.User != nil:
		return "remove the user information; use ClientID and ClientSecret"
	case strings.Contains(raw, "#"):
		return "remove the fragment" // RFC 6749 sections 3.1 and 3.2; a query is retained.
	case !OrTLS(u):
		return "use https; plain http is for loopback addresses only"
	}
	return ""
}
