package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTimelineInATerminal(t *testing.T) {
	var out bytes.Buffer
	tl := plainTimeline(&out)
	tl.live, tl.width = true, func() int { return 30 }
	room := 30 - indent - nameWidth - 1
	tl.mark("this", markCall)
	if got, want := out.String(), "         this    .\n"; got != want {
		t.Errorf("the first mark shows %q, want %q", got, want)
	}
	out.Reset()
	tl.note(markRenewed, "one two three four five six seven")
	got := out.String()
	if !strings.HasPrefix(got, "\r\x1b[2K\x1b[1A\x1b[2K") || !strings.HasSuffix(got, "         this    .\n") {
		t.Errorf("a note does not go above the row: %q", got)
	}
	for line := range strings.Lines(strings.TrimPrefix(got, "\r\x1b[2K\x1b[1A\x1b[2K")) {
		if len(line) > 30 {
			t.Errorf("%q is longer than the terminal is wide", line)
		}
	}
	for range room - 2 {
		tl.mark("this", markCall)
	}
	out.Reset()
	tl.mark("this", markFailed)
	full := "         this    " + strings.Repeat(".", room-1) + "X\n"
	if got := out.String(); !strings.Contains(got, full+"         this    \n") {
		t.Errorf("a full row is not followed by an empty one: %q", got)
	}
}

func TestTimelineInAFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tl := newTimeline(f, func(string) string { return "xterm" })
	tl.title("Title")
	tl.mark("this", markCall)
	tl.mark("other", markCall)
	tl.mark("this", markAdopted)
	tl.finish()
	got, err := os.ReadFile(f.Name())
	if want := "\nTitle\n         this    .A\n         other   .\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestColour(t *testing.T) {
	tl := plainTimeline(nil)
	if got := tl.paintMark(markCall); got != "." {
		t.Errorf("without colour: %q", got)
	}
	tl.color = true
	if got := tl.paintMark(markCall); got != "\x1b[32m.\x1b[0m" {
		t.Errorf("with colour: %q", got)
	}
}
