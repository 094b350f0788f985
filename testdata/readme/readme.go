// Package readme tries the programs of README as its reader does: from an empty directory, with
// nothing but Go, by the steps that README lists.
package readme

import (
	"bytes"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

const module = "github.com/stayauth/stayauth"

// root returns the directory of the repository.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "README.md")); missing == nil {
			if _, missing := os.Stat(filepath.Join(dir, "LICENSE")); missing == nil {
				return dir
			}
		}
		if filepath.Dir(dir) == dir {
			err = errors.New("no directory above this one is that of the repository")
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal(err)
	return ""
}

// Blocks returns the blocks of README that are written in a language.
func Blocks(t testing.TB, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	var blocks []string
	for _, b := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(text, -1) {
		blocks = append(blocks, string(b[1]))
	}
	return blocks
}

// Program returns the only program of README that has mark in it.
func Program(t testing.TB, mark string) string {
	t.Helper()
	var found []string
	for _, b := range Blocks(t, "go") {
		if strings.HasPrefix(b, "package ") && strings.Contains(b, mark) {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Fatalf("README has %d programs with %s", len(found), mark)
	}
	return found[0]
}

// A Trial is a program of README that somebody has copied, and built.
type Trial struct {
	Dir   string
	Steps []string // what the reader typed

	binary string
	began  time.Time
}

// mostSteps and longest are what a reader has to do, and how long it takes at most to see the
// program work. The compiler's time does not count: it is that of the machine.
const (
	mostSteps = 6
	longest   = time.Minute
)

// Try takes the steps that README lists, with the program. The only difference is that the module
// comes from here, and not from where it is published.
func Try(t testing.TB, program string) *Trial {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil { // as under Wine
		realparts.Require(t, "the go command", err)
	}
	var steps string
	for _, b := range Blocks(t, "sh") {
		if strings.Contains(b, "go mod init") {
			steps = b
		}
	}
	tr := &Trial{Dir: t.TempDir()}
	for line := range strings.Lines(steps) {
		for step := range strings.SplitSeq(strings.TrimSpace(line), " && ") {
			tr.take(t, step, program)
			tr.Steps = append(tr.Steps, step)
		}
	}
	if tr.binary == "" {
		t.Fatalf("README does not say how a program is run, but only:\n%s", steps)
	}
	if len(tr.Steps) > mostSteps {
		t.Errorf("it takes %d steps: %q", len(tr.Steps), tr.Steps)
	}
	return tr
}

func (tr *Trial) take(t testing.TB, step, program string) {
	t.Helper()
	words := strings.Fields(step)
	switch {
	case step == "# save the program as main.go":
		if err := os.WriteFile(filepath.Join(tr.Dir, "main.go"), []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
	case len(words) == 2 && words[0] == "mkdir":
		if err := os.Mkdir(filepath.Join(tr.Dir, words[1]), 0o700); err != nil {
			t.Fatal(err)
		}
	case len(words) == 2 && words[0] == "cd":
		tr.Dir = filepath.Join(tr.Dir, words[1])
	case step == "go run .":
		// As go run does it, but without a process between the test and the program.
		tr.binary = filepath.Join(t.TempDir(), "program.exe")
		tr.goes(t, "build", "-o", tr.binary, ".")
		tr.began = time.Now()
	case len(words) > 1 && words[0] == "go":
		tr.goes(t, words[1:]...)
		if words[1] == "mod" && words[2] == "init" {
			tr.useOurs(t, program)
		}
	default:
		t.Fatalf("README has a step that this test does not know: %q", step)
	}
}

// goes runs the go command. It downloads nothing: what the programs need the tests need too.
func (tr *Trial) goes(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = tr.Dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return
	}
	err = fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	if args[0] == "get" {
		realparts.Require(t, "the modules of the program, which 'go test ./...' at the root downloads", err)
	}
	t.Fatal(err)
}

// useOurs replaces the modules that the program imports by those of this repository.
func (tr *Trial) useOurs(t testing.TB, program string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "main.go", program, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	at := root(t)
	args := []string{"mod", "edit", "-replace=" + module + "=" + at}
	sums := sumsOf(t, at) // known, so that nobody has to be asked for them
	for _, imp := range f.Imports {
		path, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		rest, ours := strings.CutPrefix(path, module+"/")
		if _, nested := os.Stat(filepath.Join(at, rest, "go.mod")); ours && nested == nil {
			args = append(args, "-replace="+path+"="+filepath.Join(at, rest))
			sums += sumsOf(t, filepath.Join(at, rest))
		}
	}
	if err := os.WriteFile(filepath.Join(tr.Dir, "go.sum"), []byte(sums), 0o600); err != nil {
		t.Fatal(err)
	}
	tr.goes(t, args...)
}

func sumsOf(t testing.TB, module string) string {
	t.Helper()
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	return string(sums)
}

// Command returns the program, to be started with nothing in its environment but the settings and
// what a program needs on any system.
func (tr *Trial) Command(settings ...string) *exec.Cmd {
	cmd := exec.Command(tr.binary)
	cmd.Dir = tr.Dir
	for _, name := range []string{"HOME", "PATH", "SYSTEMROOT", "USERPROFILE", "LOCALAPPDATA", "TMPDIR", "TEMP"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, settings...)
	return cmd
}

// Works is called when the program has done what it is there for.
func (tr *Trial) Works(t testing.TB) {
	t.Helper()
	took := time.Since(tr.began)
	if took > longest {
		t.Errorf("it works after %v", took)
	}
	t.Logf("it works after %d steps, and %v after it was started", len(tr.Steps), took.Round(time.Millisecond))
}
