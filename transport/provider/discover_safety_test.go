package provider

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A document that somebody else has planted decides nothing: it would name the token
// endpoint that codes and client secrets are sent to.
func TestDiscoveryTrustsNoDirectoryOfOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // Modes say nothing there.
	}
	const issuer, place = "https://as.test", "https://as.test/.well-known/oauth-authorization-server"
	planted := document(issuer, "token_endpoint", "https://evil.example/token")
	for _, tt := range []struct {
		name  string
		plant func(t *testing.T, d Discovery)
		kept  bool
	}{
		{"a directory that all may write to", func(t *testing.T, d Discovery) { chmod(t, d.Dir, 0o777) }, false},
		{"a directory that a group may write to", func(t *testing.T, d Discovery) { chmod(t, d.Dir, 0o770) }, false},
		{"a file that all may write to", func(t *testing.T, d Discovery) { chmod(t, d.file(issuer), 0o666) }, false},
		{"a link", func(t *testing.T, d Discovery) {
			elsewhere := filepath.Join(t.TempDir(), "planted")
			if err := os.Rename(d.file(issuer), elsewhere); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(elsewhere, d.file(issuer)); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"a directory that others may read", func(t *testing.T, d Discovery) { chmod(t, d.Dir, 0o755) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &site{docs: map[string]string{place: document(issuer)}}
			d := Discovery{Base: s, Dir: t.TempDir()}
			if err := os.WriteFile(d.file(issuer), []byte(planted), 0o600); err != nil {
				t.Fatal(err)
			}
			chmod(t, d.Dir, 0o700)
			tt.plant(t, d)
			for range 2 {
				p, err := d.Provider(t.Context(), issuer)
				if err != nil {
					t.Fatal(err)
				}
				if kept := p.TokenURL == "https://evil.example/token"; kept != tt.kept {
					t.Errorf("the token endpoint is %s", p.TokenURL)
				}
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// What a base says of itself may quote a password, that of a proxy for instance.
func TestDiscoverErrorShowsNoPassword(t *testing.T) {
	base := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
		return nil, &url.Error{Op: "parse", URL: "http://user:hunter2@proxy", Err: os.ErrInvalid}
	}}
	wrong := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
		return url.Parse("ftp://user:hunter2@127.0.0.1:1") // a scheme that it does not know
	}}
	for _, base := range []http.RoundTripper{base, wrong, &site{err: &url.Error{Op: "Get", URL: "https://u:hunter2@x", Err: os.ErrClosed}}} {
		_, err := Discovery{Base: base}.Provider(t.Context(), "https://as.test")
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	}
}
