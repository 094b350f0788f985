package transport

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/stayauth/stayauth/transport/internal/loopback"
)

// An origin is a scheme, host and port that tokens may be sent to. With a suffix it stands for
// every host below a domain, at any depth, but not for the domain itself.
type origin struct {
	scheme string
	host   string // lower case, with the port unless it is the scheme's default
	suffix string // ".example.com:8443" for "https://*.example.com:8443"
}

// parseOrigin reads "https://api.example.com", "https://*.example.com:8443",
// "http://127.0.0.1:8080".
func parseOrigin(s string) (origin, error) {
	bad := func(remedy string) (origin, error) {
		return origin{}, &Error{Kind: ErrMisconfigured, Op: "config", Field: "Config.Origins", Remedy: remedy}
	}
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
	o := origin{scheme: strings.ToLower(u.Scheme)}
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
		o.suffix = normalizeHost(o.scheme, "."+rest, u.Port())
		return o, nil
	}
	if strings.Contains(host, "*") {
		return bad("a wildcard stands for the first labels of a host, like https://*.example.com")
	}
	o.host = normalizeHost(o.scheme, host, u.Port())
	return o, nil
}

// matches reports whether u belongs to the origin. The first comparison settles the usual case;
// only unusual spellings cost more.
func (o *origin) matches(u *url.URL) bool {
	if u.Scheme != o.scheme {
		return false
	}
	if o.suffix == "" && u.Host == o.host {
		return true
	}
	host := normalizeHost(u.Scheme, u.Hostname(), u.Port())
	if o.suffix == "" {
		return host == o.host
	}
	return len(host) > len(o.suffix) && strings.HasSuffix(host, o.suffix)
}

// normalizeHost returns host and port in the one spelling that comparisons use.
func normalizeHost(scheme, host, port string) string {
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

// listed reports whether req goes to a listed origin, and nowhere else. Host and URL.Opaque can
// name a server other than URL.Host, such as another tenant, and whatever answers at URL.Host
// may pass the request on to it (RFC 9112 section 3.2).
func (t *Transport) listed(req *http.Request) bool {
	if !t.lists(req.URL) {
		return false
	}
	if req.Host != "" && req.Host != req.URL.Host && !t.lists(&url.URL{Scheme: req.URL.Scheme, Host: req.Host}) {
		return false
	}
	switch opaque := req.URL.Opaque; {
	case opaque == "":
		return true
	case strings.HasPrefix(opaque, "//"):
		u, err := url.Parse(req.URL.Scheme + ":" + opaque) // as it is sent, see url.URL.RequestURI
		return err == nil && t.lists(u)
	default:
		return opaque[0] == '/'
	}
}

func (t *Transport) lists(u *url.URL) bool {
	for i := range t.origins {
		if t.origins[i].matches(u) {
			return true
		}
	}
	return false
}

// hasAuthorization reports whether a request has an Authorization header of its own, in a
// spelling of Header.Set or of programs that fill the map themselves. Looking for any other
// mixture of cases would mean walking through all keys of every request.
func hasAuthorization(h map[string][]string) bool { // not http.Header, whose keys should be canonical
	return len(h["Authorization"]) > 0 || len(h["authorization"]) > 0 || len(h["AUTHORIZATION"]) > 0
}
