package localpath

import (
	"net/url"
	"strings"
	"testing"
)

// W31: what leads to another site in some browser, or may do so once it is decoded, is not
// local.
func TestIs(t *testing.T) {
	for _, path := range []string{"/", "/accounts", "/accounts?tab=2&x=%20y#z", "/a@b", "/?u=https://ok.example//", "/" + strings.Repeat("a", MaxLen-1)} {
		if !Is(path) {
			t.Errorf("%q is not local", path)
		}
	}
	for _, path := range []string{"", "a", "//e", `/\e`, `\\e`, "/%5ce", "/%2Fe", "/%2f%2fe", "https://e", "http:e", "javascript:alert(1)", "/\t/e", "/\r\nX: y", "/%0d%0aX: y",
		"/..//e", " /a", "/a b", "/\x00", "/%zz", "/\xff", "/" + strings.Repeat("a", MaxLen)} {
		if Is(path) {
			t.Errorf("%q is local", path)
		}
	}
}

// W46: a return address that passes is one on this site.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/a?b=c#d", "//e", `/\e`, "/%5ce", "/%2fe", "http:e", "javascript:alert(1)", "/\t/e", "/a\r\nSet-Cookie: x=y", "/..//e", "/a@e"} {
		f.Add(s)
	}
	base, _ := url.Parse("https://app.test")
	f.Fuzz(func(t *testing.T, path string) {
		if !Is(path) {
			return
		}
		u, err := base.Parse(path)
		if err != nil || u.Host != base.Host || u.Scheme != base.Scheme || strings.ContainsAny(path, "\r\n\t\\ ") {
			t.Errorf("%q leads to %v, %v", path, u, err)
		}
	})
}
