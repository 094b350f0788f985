package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// The marks on the timeline.
const (
	markCall    = '.'
	markFailed  = 'X'
	markRenewed = 'R'
	markAdopted = 'A'
	markRefused = '!'
	markRevoked = 'V'
)

const legend = `
  .  a call was answered          X  a call failed
  R  token renewed                A  token taken over from the other process
  !  renewal refused              V  access token revoked`

// indent is the width of the column with the time.
const indent = 9

// A timeline shows what happens while it happens. In a terminal the rows of marks
// grow at the bottom; anywhere else, only lines that are complete are written.
// All its methods are safe for concurrent use.
type timeline struct {
	out   io.Writer
	live  bool
	color bool
	width func() int
	began time.Time

	mu    sync.Mutex
	rows  []*row
	drawn int // rows on the screen, below everything else
}

// A row holds the marks of one process.
type row struct {
	name  string
	marks []byte
}

func newTimeline(out *os.File, getenv func(string) string) *timeline {
	t := plainTimeline(out)
	info, err := out.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return t
	}
	if term := getenv("TERM"); term == "dumb" || term == "" { // "" also in Windows' own console
		return t
	}
	t.live = true
	t.color = getenv("NO_COLOR") == ""
	t.width = func() int { return terminalWidth(out) }
	return t
}

// plainTimeline returns a timeline that writes nothing but lines.
func plainTimeline(out io.Writer) *timeline {
	return &timeline{out: out, width: func() int { return 80 }, began: time.Now()}
}

// title starts a section.
func (t *timeline) title(s string) { t.print("\n" + t.paint(bold, s)) }

// text explains.
func (t *timeline) text(format string, args ...any) {
	t.print(wrap(fmt.Sprintf(format, args...), "", min(t.width(), 100)-1))
}

// note tells what has just happened.
func (t *timeline) note(mark byte, format string, args ...any) {
	at := fmt.Sprintf("%6.1fs  ", time.Since(t.began).Seconds())
	s := wrap(fmt.Sprintf(format, args...), strings.Repeat(" ", indent+3), min(t.width(), 100)-1)
	t.print(t.paint(dim, at) + t.paintMark(mark) + "  " + strings.TrimLeft(s, " "))
}

// mark adds a mark to the row of a process.
func (t *timeline) mark(process string, m byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.row(process)
	r.marks = append(r.marks, m)
	if len(r.marks) >= t.room(r) {
		t.erase()
		t.printRow(r)
		r.marks = nil
	}
	t.draw()
}

// finish writes the rows for good.
func (t *timeline) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	for _, r := range t.rows {
		if len(r.marks) > 0 {
			t.printRow(r)
		}
	}
	t.rows = nil
}

func (t *timeline) print(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	fmt.Fprintln(t.out, s)
	t.draw()
}

func (t *timeline) row(name string) *row {
	for _, r := range t.rows {
		if r.name == name {
			return r
		}
	}
	r := &row{name: name}
	t.rows = append(t.rows, r)
	return r
}

// room is how many marks fit into a row.
func (t *timeline) room(r *row) int { return max(min(t.width(), 120)-indent-nameWidth-1, 10) }

const nameWidth = 8

func (t *timeline) printRow(r *row) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%*s%-*s", indent, "", nameWidth, r.name)
	for _, m := range r.marks {
		b.WriteString(t.paintMark(m))
	}
	b.WriteByte('\n')
	t.out.Write(b.Bytes())
}

// erase removes the rows from the screen, and draw puts them back below whatever
// was written meanwhile. t.mu is held.
func (t *timeline) erase() {
	if t.drawn > 0 {
		io.WriteString(t.out, "\r\x1b[2K") // A terminal shows Ctrl-C as ^C.
	}
	for ; t.drawn > 0; t.drawn-- {
		io.WriteString(t.out, "\x1b[1A\x1b[2K")
	}
}

func (t *timeline) draw() {
	if !t.live {
		return
	}
	t.erase()
	for _, r := range t.rows {
		t.printRow(r)
		t.drawn++
	}
}

const (
	bold   = "1"
	dim    = "2"
	red    = "1;31"
	green  = "32"
	yellow = "33"
	cyan   = "1;36"
)

func (t *timeline) paint(color, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

func (t *timeline) paintMark(m byte) string {
	color := map[byte]string{markCall: green, markRenewed: cyan, markAdopted: cyan, markFailed: red}[m]
	if color == "" {
		color = yellow
	}
	return t.paint(color, string(m))
}

// wrap breaks s into lines of at most width characters, each with the prefix.
func wrap(s, prefix string, width int) string {
	var lines []string
	line := prefix
	for _, w := range strings.Fields(s) {
		switch {
		case line == prefix:
			line += w
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width:
			lines = append(lines, line)
			line = prefix + w
		default:
			line += " " + w
		}
	}
	return strings.Join(append(lines, line), "\n")
}

// sentence returns s as a sentence.
func sentence(s fmt.Stringer) string {
	text := s.String()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
