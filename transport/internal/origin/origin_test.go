package origin

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport/internal/loopback"
)

func TestOrigins(t *testing.T) {
	for _, tt := range []struct {
		origin string
		yes    []string
		no     []string
	}{
		{"https://api.example.com",
			[]string{"https://api.example.com", "https://api.example.com/x?y", "https://API.Example.com:443/"},
			[]string{"http://api.example.com", "https://api.example.com:8443", "https://example.com", "https://x.api.example.com",
				"https://api.example.com.evil.test", "https://api.example.com@evil.test", "https://evil.test/https://api.example.com", "wss://api.example.com"}},
		{"https://*.example.com",
			[]string{"https://a.example.com", "https://a.b.example.com", "https://A.EXAMPLE.com:443"},
			[]string{"https://example.com", "https://.example.com", "https://aexample.com", "https://a.example.com:444", "http://a.example.com", "https://a.example.com.evil.test"}},
		{"https://*.example.com:8443",
			[]string{"https://a.example.com:8443"},
			[]string{"https://a.example.com", "https://a.example.com:84430", "https://example.com:8443"}},
		{"https://*.example.com.", // what its owner writes, an absolute name, is what matches
			[]string{"https://a.example.com."},
			[]string{"https://a.example.com", "https://example.com.", "https://a.example.com.."}},
		{"https://*.0a.example",
			[]string{"https://x.0a.example"},
			[]string{"https://0a.example"}},
		{"https://api.example.com:443/",
			[]string{"https://api.example.com", "https://api.example.com:443"},
			[]string{"https://api.example.com:80"}},
		{"http://127.0.0.1:8080",
			[]string{"http://127.0.0.1:8080/x"},
			[]string{"http://127.0.0.1", "http://127.0.0.2:8080", "https://127.0.0.1:8080", "http://localhost:8080"}},
		{"http://[::1]:8080",
			[]string{"http://[::1]:8080/x"},
			[]string{"http://[::1]", "http://[::2]:8080"}},
		{"HTTP://LocalHost",
			[]string{"http://localhost", "http://localhost:80/"},
			[]string{"http://localhost:8080", "http://localhost.evil.test"}},
	} {
		o, remedy := Parse(tt.origin)
		if remedy != "" {
			t.Errorf("%s: %v", tt.origin, remedy)
			continue
		}
		for want, list := range map[bool][]string{true: tt.yes, false: tt.no} {
			for _, s := range list {
				u, err := url.Parse(s)
				if err != nil {
					t.Fatal(err)
				}
				if got := o.Matches(u); got != want {
					t.Errorf("%s matches %s: %v", tt.origin, s, got)
				}
			}
		}
	}
}

// Plain http is refused before there is any request, but for loopback (C14).
func TestBadOrigins(t *testing.T) {
	for _, s := range []string{
		"", "api.example.com", "//api.example.com", "https://", "https:///x", "ftp://x.test", "http://api.example.com", "http://8.8.8.8",
		"https://user@x.test", "https://x.test/path", "https://x.test?q", "https://x.test/?", "https://x.test#f", "https://x.test:x",
		"*", "https://*", "https://*.com", "https://*.", "https://a.*.com", "https://*.*.com", "https://a*.example.com", "https://*.1.2.3.4", "https://*.0.0.1", "https://*.0.1", "https://*.0.0.1.", "https://*.0.0.0x1", "https://*.0.09", "https://*.0.99999999999999999999999", "https://[*.::1.2]", "https://[*.a:b.c]",
		"https://*.com.", "https://*..com", "https://*..com.", "https://*...", "https://exämple.com", "https://a b.com", "\x00",
	} {
		if o, remedy := Parse(s); remedy == "" || o != (Origin{}) {
			t.Errorf("%q: got %+v", s, o)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"https://api.example.com", "https://*.example.com:8443", "http://[::1]:1"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, pattern, target string) {
		o, remedy := Parse(pattern)
		if remedy != "" {
			return
		}
		u, err := url.Parse(target)
		if err != nil || !o.Matches(u) {
			return
		}
		// Whatever matches is protected, and has the host that was listed.
		if !loopback.OrTLS(u) {
			t.Errorf("%q lets a token go to %q", pattern, target)
		}
		p, err := url.Parse(pattern)
		if err != nil {
			t.Fatal(err)
		}
		listed, got := strings.ToLower(p.Hostname()), strings.ToLower(u.Hostname())
		if rest, ok := strings.CutPrefix(listed, "*"); ok && strings.HasSuffix(got, rest) || listed == got {
			return
		}
		t.Errorf("%q lets a token go to %q", pattern, target)
	})
}

// No wildcard lets a token go to an address, since nobody owns those that end alike.
func FuzzWildcard(f *testing.F) {
	for _, s := range []string{"0.0.1", "example.com", "1.2.3.4", "0x1.1", "com."} {
		f.Add(s, "10")
	}
	f.Fuzz(func(t *testing.T, domain, first string) {
		o, remedy := Parse("https://*." + domain)
		if remedy != "" {
			return
		}
		u, err := url.Parse("https://" + first + "." + domain)
		if err == nil && net.ParseIP(strings.TrimSuffix(u.Hostname(), ".")) != nil && o.Matches(u) {
			t.Errorf("https://*.%s lets a token go to %s", domain, u.Host)
		}
	})
}
