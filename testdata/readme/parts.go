package readme

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// gitLab says what is where on a server of GitLab.
var gitLab = map[string]string{
	"/oauth/authorize": "/authorize",
	"/oauth/token":     "/token",
	"/oauth/revoke":    "/revoke",
}

// Provider starts the provider that this module has for tests, as a server of GitLab, and returns
// its address. Clients may register themselves, and all get the same identifier.
func Provider(t testing.TB, cfg oauthtest.Config) (*oauthtest.Server, string) {
	t.Helper()
	srv := oauthtest.New(cfg)
	handler := srv.Handler()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/register": // RFC 7591
			w.WriteHeader(http.StatusCreated)
			json.NewEncoder(w).Encode(map[string]any{"client_id": srv.ClientID(), "token_endpoint_auth_method": "none"})
			return
		case "/.well-known/oauth-authorization-server":
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, r)
			var metadata map[string]any
			if err := json.Unmarshal(answer.Body.Bytes(), &metadata); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			metadata["registration_endpoint"] = "http://" + r.Host + "/register"
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(metadata)
			return
		}
		if path, ok := gitLab[r.URL.Path]; ok {
			r = r.Clone(r.Context())
			r.URL.Path = path
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		front.Close()
		srv.Close()
	})
	return srv, front.URL
}

// Browser makes the test binary the browser of a desktop: it returns the settings for a program
// that opens it. The TestMain of the test has to call Browse.
func Browser(t testing.TB) (settings []string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the browser of this system, and its keyring, are those of whoever runs the test")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, opener)); err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + dir, "DISPLAY=:0", "DBUS_SESSION_BUS_ADDRESS=unix:path=" + filepath.Join(dir, "none")}
}

const opener = "xdg-open"

// Browse opens the page, and ends the process, if this is a browser.
func Browse() {
	if filepath.Base(os.Args[0]) != opener {
		return
	}
	if resp, err := http.Get(os.Args[1]); err == nil {
		resp.Body.Close()
	}
	os.Exit(0)
}

// Logins makes sure that nothing is left of the logins of an application: they are where those of
// whoever runs the test are, whatever the environment says.
func Logins(t testing.TB, app string) {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(u.HomeDir, ".local", "state", app)
	realparts.Require(t, "a home directory", os.MkdirAll(dir, 0o700))
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
}
