package clients

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheTableOfClients: what README.md says of each client is what its test runs, and at most
// one line is glue.
func TestTheTableOfClients(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	code, file, names := regexp.MustCompile("`([^`]*)`"), regexp.MustCompile(`\(([a-z]+_test\.go)\)`), map[string]bool{}
	var source string
	for line := range strings.Lines(string(readme)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || strings.HasPrefix(line, "| client") {
			continue
		}
		if name := file.FindStringSubmatch(cells[1]); name != nil {
			content, err := os.ReadFile(name[1])
			if err != nil {
				t.Fatal(err)
			}
			source, names[name[1]] = string(content), true
		}
		for _, cell := range cells[2:4] {
			lines := code.FindAllStringSubmatch(cell, -1)
			if len(lines) > 1 {
				t.Errorf("more than one line: %s", cell)
			}
			for _, l := range lines {
				if !strings.Contains(source, l[1]) {
					t.Errorf("the test does not run %q", l[1])
				}
			}
		}
	}
	if len(names) != 10 {
		t.Errorf("%d clients, want 10", len(names))
	}
}
