//go:build !darwin && !windows

package browser

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// C24: the browser is one of the system's, not a part of the program.
//
// Open is tried with an opener that writes down what it was given. That of macOS or
// Windows is not looked up in PATH.
func TestOpen(t *testing.T) {
	const target = "https://as.test/auth?a=1&b=$(reboot)"
	dir := t.TempDir()
	notes := filepath.Join(dir, "notes")
	opens := func(script string) error {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return Open(t.Context(), target)
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
	if err := Open(t.Context(), target); err == nil {
		t.Error("no opener is not noticed")
	}
}
