package main

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// Every command, flag, variable and topic is in the page for man, and on a page of the help that
// fits a terminal: both are made of what the program itself reads.
func TestManual(t *testing.T) {
	page := strings.ReplaceAll(man(), `\-`, "-")
	has := func(what string) {
		t.Helper()
		if !strings.Contains(page, what) {
			t.Errorf("the page for man does not have %q", what)
		}
	}
	pages := front()
	for _, cmd := range commands() {
		has("\n.SS " + cmd.usage() + "\n")
		if !strings.Contains(front(), "\n  "+cmd.name+" ") {
			t.Errorf("%s is not in the overview", cmd.name)
		}
		newFlagSet(cmd, new(options)).VisitAll(func(f *flag.Flag) {
			has("\n\\fB-" + f.Name + "\\fR ")
			if f.Usage == "" || !strings.Contains(cmd.page(), "\n  -"+f.Name+" ") && !strings.Contains(cmd.page(), "\n  -"+f.Name+"\n") {
				t.Errorf("%s -%s: the help does not have it", cmd.name, f.Name)
			}
		})
		pages += cmd.page()
	}
	for _, topic := range topics() {
		has("\n.SH " + strings.ToUpper(topic.name) + "\n")
		pages += topic.text
	}
	for _, v := range append(variables[:], variable{name: secretVar}, variable{name: passphraseVar}, variable{name: passphraseFileVar}, variable{name: tokenVar}, variable{name: tokenFileVar}) {
		has(v.name)
	}
	for line := range strings.Lines(pages) {
		if len(strings.TrimSpace(line)) > 90 && !strings.HasPrefix(line, "  ") {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	// A text that is taken for a request of roff would be missing.
	for line := range strings.Lines(man()) {
		if strings.HasPrefix(line, ".") && !regexp.MustCompile(`^\.(TH|SH|SS|TP|PP|nf|fi|sp|nh)\b`).MatchString(line) || strings.HasPrefix(line, "'") {
			t.Errorf("this is no text: %s", line)
		}
	}
}

// What typesets such pages has nothing to say against this one.
func TestManualReal(t *testing.T) {
	groff, err := exec.LookPath("groff")
	realparts.Require(t, "a typesetter of manuals (groff)", err)
	cmd := exec.Command(groff, "-man", "-ww", "-Tutf8", "-P-cbou")
	cmd.Stdin = strings.NewReader(man())
	var said strings.Builder
	cmd.Stderr = &said
	page, err := cmd.Output()
	if err != nil || said.Len() > 0 {
		t.Errorf("%v: %s", err, said.String())
	}
	words := strings.Join(strings.Fields(string(page)), " ")
	for _, want := range []string{`'stayauth help COMMAND' shows`, `stayauth login [flags]`, `-client-key-file file`, `-scope 'openid read' -origin https://api.example.com`} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// Whatever the help says to those who know gh is tried in a script.
func TestHelpForThoseWhoKnowGh(t *testing.T) {
	script, err := os.ReadFile("testdata/script/gh.txtar")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^  (gh .*?|GH_.*?)  +\S`).FindAllStringSubmatch(ghHelp, -1)
	for _, row := range rows {
		if !strings.Contains(string(script), "\n# "+row[1]+"\n") {
			t.Errorf("%s is not tried", row[1])
		}
	}
	if len(rows) < 15 {
		t.Errorf("%d rows", len(rows))
	}
}
