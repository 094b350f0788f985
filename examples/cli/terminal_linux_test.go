package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// A pty is a terminal window.
type pty struct {
	*os.File          // what the window sees
	tty      *os.File // what programs see
	once     sync.Once
}

func openPTY(t *testing.T) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var n, unlock uint32
	conn, err := master.SyscallConn() // Fd would make Close wait for who reads.
	if err != nil {
		t.Fatal(err)
	}
	control := func(op uintptr, arg *uint32) {
		conn.Control(func(fd uintptr) {
			if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, op, uintptr(unsafe.Pointer(arg))); errno != 0 {
				t.Fatal(errno)
			}
		})
	}
	control(syscall.TIOCSPTLCK, &unlock)
	control(syscall.TIOCGPTN, &n)
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(int(n)), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{File: master, tty: tty}
	t.Cleanup(p.closeWindow)
	return p
}

func (p *pty) closeWindow() { p.once.Do(func() { p.File.Close(); p.tty.Close() }) }

// An ending is what ends or stops a program in a terminal.
type ending struct {
	name    string
	command string                           // for the shell; $1 is a URL with a long answer, $2 how long to be stopped
	act     func(p *pty, program func() int) // nil: the answer is long, and the refresh in the background
}

var endings = []ending{
	{"Ctrl-C", `exec stayauth get "$1"`, press("\x03")},
	{"SIGTERM", `stayauth get "$1"`, kill(syscall.SIGTERM)},
	{"SIGHUP", `stayauth get "$1"`, kill(syscall.SIGHUP)},
	{"SIGHUP twice", `stayauth get "$1"`, func(p *pty, program func() int) {
		kill(syscall.SIGHUP)(p, program)
		time.Sleep(20 * time.Millisecond)
		kill(syscall.SIGHUP)(p, program)
	}},
	{"window closed", `exec stayauth get "$1"`, func(p *pty, _ func() int) { p.closeWindow() }},
	{"window of a shell closed", `stayauth get "$1"`, func(p *pty, _ func() int) { p.closeWindow() }},
	{"SIGQUIT", `exec stayauth get "$1"`, press("\x1c")},
	{"pipe into head", `stayauth get "$1" | head -1`, nil},
	{"Ctrl-C with a filter", `stayauth get "$1" 2>&1 | grep x`, press("\x03")},
	{"Ctrl-Z and fg", `set -m; stayauth get "$1"; sleep "$2"; fg`, press("\x1a")},
	{"SIGSTOP", `stayauth get "$1"`, func(_ *pty, program func() int) {
		pid := program()
		syscall.Kill(pid, syscall.SIGSTOP)
		time.AfterFunc(stopped(), func() { syscall.Kill(pid, syscall.SIGCONT) })
	}},
}

func press(key string) func(*pty, func() int) {
	return func(p *pty, _ func() int) { io.WriteString(p, key) }
}

func kill(s syscall.Signal) func(*pty, func() int) {
	return func(_ *pty, program func() int) { syscall.Kill(program(), s) }
}

func everything() bool { return os.Getenv("STAYAUTH_FAULTS") == "full" }

// stopped is how long a person forgets about a stopped program.
func stopped() time.Duration {
	if everything() {
		return 30 * time.Second
	}
	return 500 * time.Millisecond
}

// Moments in the life of a refresh.
var moments = []string{"before the request", "in mid refresh", "between answer and save"}

// The provider forgives nothing: a login that is lost once stays lost. With
// STAYAUTH_FAULTS=full every cell is tried 20 times, and Ctrl-Z lasts 30 s.
func TestNothingThatEndsAProgramCostsTheLogin(t *testing.T) {
	needsShell(t)
	times := 1
	if everything() {
		times = 20
	}
	for _, e := range endings {
		for _, moment := range moments {
			t.Run(e.name+" "+moment, func(t *testing.T) {
				t.Parallel()
				tm := newTerminal(t)
				rotations := tm.srv.Counts().Rotations
				for range times {
					tm.meets(e, moment)
					rotations++
					if c := tm.srv.Counts(); c.Rotations != rotations || c.Reuses != 0 || c.InvalidGrants != 0 {
						t.Fatalf("%+v, want %d rotations", c, rotations)
					}
				}
				cmd, stderr := tm.start("token")
				if err := cmd.Wait(); err != nil {
					t.Fatalf("the login is lost: %v\n%s", err, stderr)
				}
			})
		}
	}
}

// meets runs a program whose refresh meets an ending at a moment, until all of its
// processes have ended.
func (tm *terminal) meets(e ending, moment string) {
	tm.t.Helper()
	left := -time.Minute
	if e.act == nil {
		left = time.Minute
		tm.srv.Fault("/api", 0, func(http.Handler) http.Handler { return http.HandlerFunc(longAnswer) })
	}
	if err := expireIn(tm.dir, left); err != nil {
		tm.t.Fatal(err)
	}
	window := openPTY(tm.t)
	alive, held, err := os.Pipe() // held is open in every process of the pipeline
	if err != nil {
		tm.t.Fatal(err)
	}
	defer alive.Close()
	cmd := exec.Command("sh", "-c", e.command, "sh", tm.srv.APIURL(), fmt.Sprint(stopped().Seconds()))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = window.tty, window.tty, window.tty
	cmd.ExtraFiles = []*os.File{held}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.Env = tm.environment()
	started := make(chan struct{})
	act := sync.OnceFunc(func() {
		<-started
		if e.act == nil {
			time.Sleep(untilTold)
			return
		}
		e.act(window, func() int { return programOf(tm.t, cmd.Process.Pid) })
	})
	ended := make(chan struct{})
	restore := tm.duringTheRefresh(moment, act)
	defer restore()
	if err := cmd.Start(); err != nil {
		tm.t.Fatal(err)
	}
	close(started)
	held.Close()
	go io.Copy(io.Discard, window)
	go func() {
		io.Copy(io.Discard, alive)
		cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(stopped() + 2*time.Minute):
		cmd.Process.Kill()
		tm.t.Fatalf("%s: it does not end", moment)
	}
	window.closeWindow()
}

func longAnswer(w http.ResponseWriter, _ *http.Request) {
	io.Copy(w, io.LimitReader(lines{}, 4<<20))
}

type lines struct{}

func (lines) Read(b []byte) (int, error) { return copy(b, "a line of a long answer\n"), nil }

// programOf returns the process stayauth that the shell has started, or the shell itself
// if it has become that.
func programOf(t *testing.T, shell int) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", shell, shell))
	if err != nil {
		t.Error(err)
		return shell
	}
	for _, child := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(child); err == nil {
			return pid
		}
	}
	return shell
}

// untilTold is longer than the program waits before it says what it waits for.
const untilTold = 500 * time.Millisecond

// duringTheRefresh acts at a moment of the next refresh.
func (tm *terminal) duringTheRefresh(moment string, act func()) (restore func()) {
	tm.moment.Store(serving(func(endpoint http.Handler, w http.ResponseWriter, r *http.Request) {
		if moment == "before the request" {
			act()
			time.Sleep(untilTold)
		}
		answer := httptest.NewRecorder()
		endpoint.ServeHTTP(answer, r)
		if moment == "in mid refresh" {
			act()
			time.Sleep(untilTold)
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		io.Copy(w, bytes.NewReader(answer.Body.Bytes()))
		if moment == "between answer and save" {
			http.NewResponseController(w).Flush()
			act()
		}
	}))
	return func() { tm.moment.Store(serving(serve)) }
}
