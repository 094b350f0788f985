package disk

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

const program = "STAYAUTH_TEST_WRITER"

// The programs replace a file by one that has other content.
var writers = map[string]func() error{
	"with a sync": func() error { return replace(true) },
	"without":     func() error { return replace(false) },
	"in place": func() error {
		f, err := os.OpenFile("file", os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteString("new content"); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return f.Close()
	},
	"forgets the error": func() error { os.WriteFile("file", []byte("new content"), 0o600); return nil },
}

func init() {
	if how, ok := In(program); ok {
		Begin()
		if err := writers[how](); err != nil {
			fmt.Println("failed:", err)
		} else {
			fmt.Println("done")
		}
		os.Exit(0)
	}
}

func replace(sync bool) error {
	f, err := os.Create("temp")
	if err != nil {
		return err
	}
	if _, err := f.WriteString("new content"); err != nil {
		return err
	}
	if sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename("temp", "file"); err != nil {
		return err
	}
	d, err := os.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func writer(t *testing.T, how string) Program {
	t.Helper()
	Require(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", []byte("OLD CONTENT!"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Program{program, how, dir}
}

// The model finds what is known to be wrong with these ways to replace a file, and nothing wrong
// with the right one.
func TestPowerFails(t *testing.T) {
	old, now := "OLD CONTENT!", "new content"
	for how, want := range map[string][]string{
		"with a sync": {old, now},
		"without":     {old, now, "", "new c", strings.Repeat("\x00", 11)},
		"in place":    {old, "new content!", "", "new co", strings.Repeat("\x00", 12), "new content!"[:6] + old[6:]},
	} {
		t.Run(how, func(t *testing.T) {
			found := make(map[string]bool)
			for _, s := range writer(t, how).PowerFails(t, func(name string) bool { return name == "temp" }) {
				content := string(s.Files["file"])
				found[content] = true
				if how != "without" && strings.Contains(s.Said, "done") && !strings.HasPrefix(content, now) {
					t.Errorf("%q is there after the end", content)
				}
				dir := t.TempDir()
				if err := s.Write(dir); err != nil {
					t.Fatal(err)
				}
				if b, err := os.ReadFile(dir + "/file"); err != nil || !bytes.Equal(b, s.Files["file"]) {
					t.Errorf("%q is written, of %q: %v", b, content, err)
				}
			}
			for _, content := range want {
				if !found[content] {
					t.Errorf("%q is not found", content)
				}
				delete(found, content)
			}
			if len(found) > 0 {
				t.Errorf("%q cannot be", slices.Sorted(maps.Keys(found)))
			}
		})
	}
}

// Each call after Begin fails, and the program hears of it, or does not want to.
func TestFaults(t *testing.T) {
	for _, how := range []string{"with a sync", "forgets the error"} {
		p := writer(t, how)
		faults := p.Faults(t)
		for _, call := range []string{"openat", "write", "close"} {
			i := slices.IndexFunc(faults, func(f Fault) bool { return f.Call == call && f.Errno == "EIO" && !f.Ever })
			if i < 0 {
				t.Fatalf("%s: no %s fails", how, call)
			}
			said, err := p.Run(faults[i])
			if err != nil {
				t.Fatal(err)
			}
			if failed := strings.Contains(said, "input/output error"); failed != (how == "with a sync") {
				t.Errorf("%s, %s: %q", how, faults[i], said)
			}
		}
	}
}

// Calls of several threads are in the order in which they have ended.
func TestParse(t *testing.T) {
	lines, err := parse(strings.NewReader("1 fsync(3<a> <unfinished ...>\n2 write(4<b>, \"\", 0) = 0\n1 <... fsync resumed>) = 0\n1 +++ exited with 0 +++\n"))
	if err != nil || len(lines) != 2 || lines[0] != (line{"2", "write", `4<b>, "", 0`, "0"}) || lines[1] != (line{"1", "fsync", "3<a>", "0"}) {
		t.Errorf("%v %v", lines, err)
	}
}
