package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/readme"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// What README and the pages of the repository link to is there.
func TestLinks(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, page := range []string{"README.md", ".github/CONTRIBUTING.md", ".github/RELEASES.md", ".github/SECURITY.md", "examples/cli/README.md", "examples/clients/README.md",
		"examples/migrate/README.md", "examples/service/README.md", "examples/webapp/README.md", "transport/bench/README.md", "transport/bench/fleet.md"} {
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

// All Go in README is whole programs: TestReaders… try each, from the first line to the last.
func TestREADMEHasWholePrograms(t *testing.T) {
	blocks := readme.Blocks(t, "go")
	for _, block := range blocks {
		if !strings.HasPrefix(block, "package main\n") {
			t.Errorf("nothing compiles this:\n%s", block)
		}
	}
	if len(blocks) != 4 {
		t.Errorf("README has %d programs, and four are tried", len(blocks))
	}
}
