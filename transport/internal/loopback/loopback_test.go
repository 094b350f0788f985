package loopback

import (
	"net"
	"net/url"
	"testing"
)

func TestIs(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "LocalHost": true,
		"127.0.0.1": true, "127.0.0.2": true, "127.255.255.254": true,
		"::1": true, "::1%lo": true, "0:0:0:0:0:0:0:1": true, "::ffff:127.0.0.1": true,

		"": false, "localhost.": false, "app.localhost": false, "localhost.example.com": false, "localhost4": false,
		"127.1": false, "127.0.0.01": false, "2130706433": false, "0x7f.0.0.1": false, "127.0.0.1.example.com": false,
		"0.0.0.0": false, "::": false, "128.0.0.1": false, "192.168.0.1": false, "::2": false, "fe80::1": false,
		"[::1]": false, "127.0.0.1:80": false, "localhost:80": false,
		"ⅼocalhost": false, "locaⅼhost": false, "１２７.0.0.1": false, "lo\u212aalhost": false,
	} {
		if got := Is(host); got != want {
			t.Errorf("Is(%q) = %t", host, got)
		}
	}
}

func TestOrTLS(t *testing.T) {
	for raw, want := range map[string]bool{
		"https://api.example.com": true, "HTTPS://api.example.com": true, "https://10.0.0.1:8443/x?y": true,
		"http://localhost:8080": true, "http://LOCALHOST/": true, "HTTP://127.0.0.2:1/x": true, "http://[::1]:8080": true,
		"http://[::1%25lo]": true,

		"http://api.example.com": false, "http://0.0.0.0": false, "http://user@example.com": false, "http://localhost@example.com": false,
		"ws://localhost": false, "ftp://127.0.0.1": false, "localhost:8080": false, "//localhost": false, "https:": false, "https:/path": false, "": false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := OrTLS(u); got != want {
			t.Errorf("OrTLS(%q) = %t", raw, got)
		}
		if problem := Problem(raw); want && problem != "" || !want && problem == "" {
			t.Errorf("Problem(%q) = %q", raw, problem)
		}
	}
}

func TestProblem(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                 "set it: it is in the provider's documentation or metadata",
		"/token":                           "use an absolute URL, such as https://login.example.com/path",
		"https://exa mple.com":             "use an absolute URL, such as https://login.example.com/path",
		"https://:443/token":               "use an absolute URL, such as https://login.example.com/path",
		"https://id:secret@example.com":    "remove the user information; use ClientID and ClientSecret",
		"https://example.com/token#":       "remove the fragment",
		"https://example.com/token#a":      "remove the fragment",
		"http://example.com/token":         "use https; plain http is for loopback addresses only",
		"http://127.0.0.1.example.com/":    "use https; plain http is for loopback addresses only",
		"https://example.com/token?a=b":    "",
		"http://localhost:8080/token":      "",
		"http://127.0.0.2:8080/token?a=b":  "",
		"https://example.com:8443/a/token": "",
	} {
		if got := Problem(raw); got != want {
			t.Errorf("Problem(%q) = %q, want %q", raw, got, want)
		}
	}
}

// FuzzProblem: whatever has no problem is protected by TLS or is an address that the
// system takes for this machine too.
func FuzzProblem(f *testing.F) {
	for _, raw := range []string{"https://a.example", "http://localhost:1/x", "http://[::1%25lo]:1", "http://127.0.0.2", "http://a@b#c"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if Problem(raw) != "" {
			return
		}
		u, err := url.Parse(raw)
		if err != nil || u.User != nil || u.Hostname() == "" {
			t.Fatalf("%q: %v", raw, err)
		}
		if u.Scheme == "https" || u.Scheme == "http" && len(u.Hostname()) == len("localhost") && u.Hostname()[0]|0x20 == 'l' {
			return
		}
		ip, err := net.ResolveIPAddr("ip", u.Hostname())
		if u.Scheme != "http" || err != nil || !ip.IP.IsLoopback() {
			t.Errorf("%q may carry a secret: %v %v", raw, ip, err)
		}
	})
}
