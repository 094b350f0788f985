package browser

import (
	"slices"
	"testing"
)

// The environment of the browser has what it needs and nothing secret.
func TestEnvironment(t *testing.T) {
	env := []string{"PATH=/bin", "HOME=/home/a", "LC_ALL=C", "XDG_RUNTIME_DIR=/run/1", "DISPLAY=:0",
		"CLIENT_SECRET=s", "AWS_SECRET_ACCESS_KEY=s", "GITHUB_TOKEN=s", "STAYAUTH_PASSPHRASE=s",
		"CREDENTIALS_DIRECTORY=/s", "HOMEX=s", "XDGS=s", "LD_PRELOAD=s"}
	want := []string{"PATH=/bin", "HOME=/home/a", "LC_ALL=C", "XDG_RUNTIME_DIR=/run/1", "DISPLAY=:0"}
	if got := environment(env); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
