package login

import (
	"net/url"
	"strings"
	"unicode"
)

// maxReturn bounds a return address, which has to fit into a cookie, in bytes.
const maxReturn = 256

// isLocal reports whether path leads to this site in every browser, also if it is decoded on
// the way (RFC 9700 section 4.11.1).
func isLocal(path string) bool {
	if len(path) > maxReturn || !strings.HasPrefix(path, "/") {
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

// localOr returns path, or Home if path could lead a browser to another site.
func (web *Web) localOr(path string) string {
	if !isLocal(path) {
		return web.cfg.Home
	}
	return path
}
