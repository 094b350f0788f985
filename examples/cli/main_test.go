package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary is also the program, and the browser: it is called xdg-open, which
// is what login looks for.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", noSleep)
	testscript.Main(m, map[string]func(){"stayauth": main, "xdg-open": browser})
}

// noSleep keeps the race detector from making each program wait for a second before it ends.
const noSleep = "atexit_sleep_ms=0"

// browser opens a URL as a user does who agrees to everything, and writes down what a
// browser is shown of the program: its environment, and the arguments of all
// processes, which noleak searches. The file browser in TMPDIR says otherwise.
func browser() {
	tmp := os.Getenv("TMPDIR")
	for name, lines := range map[string][]string{"environment": os.Environ(), "processes": processes()} {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			os.Exit(1)
		}
	}
	switch mode, _ := os.ReadFile(filepath.Join(tmp, "browser")); strings.TrimSpace(string(mode)) {
	case "absent":
		os.Exit(3)
	case "idle":
		return
	}
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Get(os.Args[1])
	if err == nil {
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		page := filepath.Join(tmp, "page")
		err = errors.Join(os.WriteFile(page+".part", fmt.Appendf(nil, "%s\n%s", resp.Request.URL, body), 0o600), os.Rename(page+".part", page))
	}
	if err != nil {
		os.Exit(1)
	}
}

// processes returns the arguments of all processes on the machine, as everybody can
// see them, where the system shows them in files.
func processes() []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var all []string
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil { // Else it has ended.
			all = append(all, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return all
}
