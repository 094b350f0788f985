// Package localpath knows which addresses a browser may be led to after a login: those of the
// site that it has logged in at, and no others.
package localpath

import (
	"net/url"
	"strings"
	"unicode"
)

// MaxLen bounds a path, in bytes: it has to fit into a cookie.
const MaxLen = 256

// Is reports whether path leads to this site in every browser, also if it is decoded on
// the way (RFC 9700 section 4.11.1).
func Is(path string) bool {
	if len(path) > MaxLen || !strings.HasPrefix(path, "/") {
		return false
	}
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil {
		return false
	}
	for _, form := range []string{path, u.Path} {
		p, _, _ := strings.Cut(form, "?")
		// Browsers treat a backslash as a slash, and two slashes begin a host.
		if strings.Contains(p, "//") || strings.Contains(p, `\`) || strings.ContainsFunc(form, func(c rune) bool { return unicode.IsControl(c) || c == unicode.ReplacementChar }) {
			return false
		}
	}
	return !strings.ContainsAny(path, " \\")
}
