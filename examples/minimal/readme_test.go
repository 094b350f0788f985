package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/readme"
	"github.com/stayauth/stayauth/testdata/realparts"
)

// What the blocks of README that are no whole programs take for granted: the packages, and what
// the reader's own program has.
const (
	readmePackages = `package main

import (
	"context"
	"errors"
	"time"

	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

var (
	_ = errors.Is
	_ time.Time
	_ oskeyring.Config
	_ oauthtest.Config
)

var (
	ctx    context.Context
	source *transport.Source
	err    error
)

`
	statements = "func main() {\n%s}\n"
)

// Every block of Go in README compiles. Those that are statements may leave variables
// unused.
func TestREADMECompiles(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil { // as under Wine
		realparts.Require(t, "the go command", err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir, files := t.TempDir(), map[string]string{}
	for i, program := range readme.Blocks(t, "go") {
		if strings.HasPrefix(program, "package ") {
			continue // a whole one, which is tried as a reader does
		}
		if !strings.Contains(program, "func main()") {
			program = fmt.Sprintf(statements, program)
		}
		name := fmt.Sprintf("block%02d", i)
		file := filepath.Join(dir, name+".go")
		if err := os.WriteFile(file, []byte(readmePackages+program), 0o600); err != nil {
			t.Fatal(err)
		}
		files[filepath.Join(here, "readme", name, "main.go")] = file
	}
	if len(files) == 0 {
		t.Fatal("README has no blocks of Go")
	}
	overlay, err := json.Marshal(map[string]any{"Replace": files})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "build", "-gcflags=-e", "-overlay="+list, "./readme/...").CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "# ") && !strings.Contains(line, "declared and not used") {
			t.Error(line)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// What README and the pages of the repository link to is there.
func TestLinks(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, page := range []string{"README.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md", "examples/cli/README.md",
		"examples/migrate/README.md", "examples/service/README.md", "examples/webapp/README.md", "transport/bench/README.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			to, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			if to != "" {
				if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), to)); err != nil {
					t.Errorf("%s: %v", page, err)
				}
			} else if headings := strings.ReplaceAll(strings.ToLower(string(text)), "-", " "); !strings.Contains(headings, "\n## "+strings.ReplaceAll(anchor, "-", " ")+"\n") {
				t.Errorf("%s: there is no heading for #%s", page, anchor)
			}
		}
	}
}
