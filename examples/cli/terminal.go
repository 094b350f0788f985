package main

import (
	"io"
	"os"
	"sync"
	"time"
)

// isTerminal reports whether a person looks at f.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || !isWindow(f) {
		return false
	}
	null, err := os.Stat(os.DevNull) // On Windows it is such a device too.
	return err != nil || !os.SameFile(info, null)
}

// Colours, as in ECMA-48.
const (
	bold  = "1"
	red   = "31"
	green = "32"
)

// paint colours what is said, if a person sees it and wants colours (no-color.org).
func (c *cli) paint(colour, s string) string { return paint(c.stderr, colour, s) }

// paintOut colours what is printed.
func (c *cli) paintOut(colour, s string) string { return paint(c.stdout, colour, s) }

func paint(f *os.File, colour, s string) string {
	if !isTerminal(f) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// A progress is a line on the terminal that shows for how long something has been
// waited for. It shows nothing elsewhere, nor in the first second.
type progress struct {
	c    *cli
	what string

	once, ended sync.Once
	done        chan struct{}
	gone        sync.WaitGroup
}

func (c *cli) newProgress(what string) *progress {
	return &progress{c: c, what: what, done: make(chan struct{})}
}

func (p *progress) start() {
	if !isTerminal(p.c.stderr) || os.Getenv("TERM") == "dumb" {
		return
	}
	p.once.Do(func() { p.gone.Go(p.run) })
}

func (p *progress) run() {
	begun := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			// The cursor stays at the beginning, so that whatever else is said replaces this.
			p.c.say("\x1b[K%s, %d s\r", p.what, int(time.Since(begun).Seconds()))
		case <-p.done:
			p.c.say("\x1b[K")
			return
		}
	}
}

// stop removes the line, for good.
func (p *progress) stop() {
	p.ended.Do(func() { close(p.done) })
	p.gone.Wait()
}

// until returns in, and stops when somebody reads from it: the user then types where
// the line would be.
func (p *progress) until(in io.Reader) io.Reader { return stoppingReader{in, p} }

type stoppingReader struct {
	io.Reader
	p *progress
}

func (r stoppingReader) Read(b []byte) (int, error) {
	r.p.stop()
	return r.Reader.Read(b)
}
