package login

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The environment of the browser has what it needs and nothing secret.
func TestBrowserEnv(t *testing.T) {
	env := []string{"PATH=/bin", "HOME=/home/a", "LC_ALL=C", "XDG_RUNTIME_DIR=/run/1", "DISPLAY=:0",
		"CLIENT_SECRET=s", "AWS_SECRET_ACCESS_KEY=s", "GITHUB_TOKEN=s", "STAYAUTH_PASSPHRASE=s",
		"CREDENTIALS_DIRECTORY=/s", "HOMEX=s", "XDGS=s", "LD_PRELOAD=s"}
	want := []string{"PATH=/bin", "HOME=/home/a", "LC_ALL=C", "XDG_RUNTIME_DIR=/run/1", "DISPLAY=:0"}
	if got := browserEnv(env); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// openBrowser is tried with an opener that writes down what it was given.
func TestOpenBrowser(t *testing.T) {
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		t.Skip("the opener of this system is not looked up in PATH")
	}
	const target = "https://as.test/auth?a=1&b=$(reboot)"
	dir := t.TempDir()
	notes := filepath.Join(dir, "notes")
	opens := func(script string) error {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return openBrowser(t.Context(), target)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("CLIENT_SECRET", "very secret")

	if err := opens(`printf '%s\n' "$@" >` + notes + `; export -p >>` + notes); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(notes)
	if err != nil {
		t.Fatal(err)
	}
	if args, _, _ := strings.Cut(string(got), "\n"); args != target {
		t.Errorf("the opener got %q", args)
	}
	if strings.Contains(string(got), "very secret") {
		t.Errorf("the opener was told a secret:\n%s", got)
	}
	if err := opens("exit 3"); err == nil {
		t.Error("an opener that fails is not noticed")
	}

	t.Setenv("PATH", t.TempDir())
	if err := openBrowser(t.Context(), target); err == nil {
		t.Error("no opener is not noticed")
	}
}
