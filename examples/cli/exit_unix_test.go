//go:build unix

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Scripts depend on the exit status: each has one meaning, which the help tells, and there are no
// others. What is told besides is one line that says what to do, and no more is printed.
func TestExitStatuses(t *testing.T) {
	needsShell(t)
	tm := newTerminal(t)
	tm.run(0, "get", "-o", os.DevNull, tm.srv.APIURL())
	seen := map[int]bool{}
	for _, tt := range []struct {
		name   string
		want   int
		script string // for the shell; $1 is the API
		env    string
		says   string
	}{
		{"done", exitOK, `stayauth get "$1"`, "", ""},
		{"what the API answers is an error", exitFailure, `stayauth get "$1/../../nothing"`, "", "404"},
		{"a file that cannot be written", exitFailure, `stayauth get -o none/none "$1"`, "", "none/none"},
		{"a command that there is not", exitUsage, `stayauth nothing`, "", "no command"},
		{"a flag that there is not", exitUsage, `stayauth get -k "$1"`, "", "not defined: -k"},
		{"an origin that is not listed", exitUsage, `stayauth get https://elsewhere.example`, "", "allow it with -origin"},
		{"a client that there is not", exitUsage, `stayauth login -client-id none -flow client-credentials -client-secret-file /dev/null`, "", "stayauth: "},
		{"nobody is logged in", exitLogin, `stayauth token`, "STAYAUTH_DIR=" + t.TempDir(), "stayauth login"},
		{"another account", exitLogin, `stayauth status -account nobody`, "", "nobody"},
		{"an API that is not there", exitUnavailable, `stayauth get -origin http://127.0.0.1:1 http://127.0.0.1:1/`, "", "refused"},
		{"a provider that is not there", exitUnavailable, `stayauth login`, "STAYAUTH_ISSUER=http://127.0.0.1:1", "refused"},
		{"logins that cannot be read", exitStorage, `stayauth token`, "STAYAUTH_DIR=" + damaged(t, tm), "damaged"},
		{"logins that cannot be stored", exitStorage, `stayauth token`, "STAYAUTH_DIR=/dev/null", "/dev/null"},
		{"nobody reads", exitPipe, `stayauth get "$1"`, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", tt.script, "sh", tm.srv.APIURL())
			cmd.Env = append(tm.environment(), tt.env)
			var stdout, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if tt.want == exitPipe {
				cmd.Stdout = pipeThatNobodyReads(t)
			}
			cmd.Run()
			status := cmd.ProcessState.ExitCode()
			if status != tt.want || !strings.Contains(stderr.String(), tt.says) || tt.says == "" && stderr.Len() > 0 {
				t.Errorf("exit status %d, want %d: %s", status, tt.want, stderr.String())
			}
			if tt.want > exitFailure && stdout.Len() > 0 {
				t.Errorf("it prints %q", stdout.String())
			}
			seen[status] = true
		})
	}
	if seen[exitInterrupted] = interrupted(t); !seen[exitInterrupted] {
		t.Error("Ctrl-C has another exit status")
	}
	documented := regexp.MustCompile(`(?m)^  (\d+) +\S`).FindAllStringSubmatch(front(), -1)
	for _, line := range documented {
		status, _ := strconv.Atoi(line[1])
		if !seen[status] {
			t.Errorf("the help tells of exit status %d, which is not tried", status)
		}
		delete(seen, status)
	}
	if len(documented) == 0 || len(seen) > 0 {
		t.Errorf("the help does not tell of %v", seen)
	}
}

func pipeThatNobodyReads(t *testing.T) *os.File {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	t.Cleanup(func() { writer.Close() })
	return writer
}

// interrupted reports whether Ctrl-C ends a program that waits for an API with its own status.
func interrupted(t *testing.T) bool {
	arrived := make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	defer api.Close()
	cmd := exec.Command("stayauth", "get", api.URL)
	cmd.Env = append(os.Environ(), "STAYAUTH_DIR="+t.TempDir(), "STAYAUTH_TOKEN=token", "STAYAUTH_ORIGIN="+api.URL)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(time.Minute, func() { cmd.Process.Kill() }).Stop()
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	select {
	case <-arrived:
		cmd.Process.Signal(os.Interrupt)
	case <-ended:
	}
	<-ended
	return cmd.ProcessState.ExitCode() == exitInterrupted
}

// damaged returns a copy of the logins, which nothing can read.
func damaged(t *testing.T, tm *terminal) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tm.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "logins", "sealing-key"), 0o600); err != nil { // CopyFS keeps no mode.
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(dir, "logins", "entries", "*"))
	if err != nil || len(entries) == 0 {
		t.Fatal(fmt.Sprint("no entries: ", err))
	}
	for _, entry := range entries {
		if err := os.WriteFile(entry, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
