// Package origin says to which servers a token may be sent.
package origin

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/stayauth/stayauth/transport/internal/loopback"
)

// An Origin is a scheme, host and port that tokens may be sent to. With a suffix it stands for
// every host below a domain, at any depth, but not for the domain itself.
type Origin struct {
	scheme string
	host   string // lower case, with the port unless it is the scheme's default
	suffix string // ".example.com:8443" for "https://*.example.com:8443"
}

// Parse reads "https://api.example.com", "https://*.example.com:8443", "http://127.0.0.1:8080".
// Of anything else it returns what to write instead.
func Parse(s string) (o Origin, remedy string) {
	bad := func(remedy string) (Origin, string) { return Origin{}, remedy }
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return bad("one of the origins is not a URL; write them like https://api.example.com")
	case u.Scheme == "" || u.Host == "":
		return bad("an origin needs a scheme and a host, like https://api.example.com")
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "", u.Path != "" && u.Path != "/":
		return bad("an origin is a scheme, a host and a port, without user, path or query")
	}
	host := u.Hostname()
	for _, c := range host {
		if c > 0x7e || c <= ' ' {
			return bad("write international host names in their ASCII form (xn--...)")
		}
	}
	o = Origin{scheme: strings.ToLower(u.Scheme)}
	switch {
	case loopback.OrTLS(u):
	case o.scheme == "http":
		return bad("use https: over http anybody on the way reads the token (plain http is for loopback addresses only)")
	default:
		return bad("use an https origin")
	}
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		if domain := strings.Trim(rest, "."); strings.Contains(rest, "*") || !strings.Contains(domain, ".") || isAddress(domain) {
			return bad("a wildcard stands for the first labels of a host below a domain of your own, like https://*.example.com")
		}
		o.suffix = NormalizeHost(o.scheme, "."+rest, u.Port())
		return o, ""
	}
	if strings.Contains(host, "*") {
		return bad("a wildcard stands for the first labels of a host, like https://*.example.com")
	}
	o.host = NormalizeHost(o.scheme, host, u.Port())
	return o, ""
}

// Matches reports whether u belongs to the origin. The first comparison settles the usual case;
// only unusual spellings cost more.
func (o *Origin) Matches(u *url.URL) bool {
	if u.Scheme != o.scheme {
		return false
	}
	if o.suffix == "" && u.Host == o.host {
		return true
	}
	host := NormalizeHost(u.Scheme, u.Hostname(), u.Port())
	if o.suffix == "" {
		return host == o.host
	}
	return len(host) > len(o.suffix) && strings.HasSuffix(host, o.suffix)
}

// TLS reports whether a token goes there encrypted; otherwise it stays on this machine.
func (o *Origin) TLS() bool { return o.scheme != "http" }

// NormalizeHost returns host and port in the one spelling that comparisons use.
func NormalizeHost(scheme, host, port string) string {
	host = strings.ToLower(host)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		return host
	}
	return host + ":" + port
}

// isAddress reports whether domain is an IP address or the end of one: the last label
// of a name is never a number (RFC 1123 section 2.1, RFC 3696 section 2).
func isAddress(domain string) bool {
	last := domain[strings.LastIndexByte(domain, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64) // also 0x7f, as inet_aton takes it
	return err == nil || strings.Contains(domain, ":") || strings.Trim(last, "0123456789") == ""
}
