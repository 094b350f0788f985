package transport

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// listed reports whether req goes to a listed origin, and nowhere else. Host and
// URL.Opaque can name another server than URL.Host, to which the API at that address
// may pass the request on (RFC 9112 section 3.2): another tenant, for instance.
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

// hasAuthorization reports whether a request has an Authorization header of its own, as
// Header.Set has it, or as those write it who fill the map themselves. To go through all
// keys for any other mixture of letters would cost a request with ten headers as much as
// everything else that is done beside the copies.
func hasAuthorization(h map[string][]string) bool { // not http.Header, whose keys should be canonical
	return len(h["Authorization"]) > 0 || len(h["authorization"]) > 0 || len(h["AUTHORIZATION"]) > 0
}

// withToken returns a copy of req with the token and the body, since a RoundTripper
// must not modify its request (net/http.RoundTripper). The copy owns all that a base
// transport might change, such as the value that one redacts before it logs.
func (t *Transport) withToken(req *http.Request, snap *snapshot, body io.ReadCloser) *http.Request {
	r := &struct { // one allocation
		http.Request
		authorization [1]string
	}{*req, snap.header}
	if r.Header = maps.Clone(req.Header); r.Header == nil {
		r.Header = make(http.Header)
	}
	if t.replace {
		maps.DeleteFunc(r.Header, func(key string, _ []string) bool { return strings.EqualFold(key, "Authorization") })
	}
	r.Header["Authorization"] = r.authorization[:]
	r.Body = body
	return &r.Request
}
